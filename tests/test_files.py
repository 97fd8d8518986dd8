"""Files: writing them whole, reading text of any origin, one-line errors, the lock of a folder."""

import errno

import pytest

from rpfnet_jax import files


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "file"
    files.write_atomically(path, b"old")
    with pytest.raises(ZeroDivisionError), files.replacing(path) as temporary:
        raise ZeroDivisionError(temporary.write_bytes(b"half"))
    assert path.read_bytes() == b"old"
    files.write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("named", [True, False])
def test_a_full_disk_names_the_file(tmp_path, named):
    path = tmp_path / "table.csv"
    with pytest.raises(OSError, match="No space left") as caught, files.replacing(path) as temporary:
        raise OSError(errno.ENOSPC, "No space left on device", *[str(temporary)] * named)
    assert files.error_message(caught.value) == f"{path}: No space left on device"
    assert not list(tmp_path.iterdir())


def test_errors_of_other_files_and_of_decoders_keep_their_words(tmp_path):
    for error in (OSError(errno.ENOENT, "No such file", "other"), OSError("image file is truncated")):
        with pytest.raises(OSError, match=r".") as caught, files.naming(tmp_path / "file"):
            raise error
        assert caught.value is error


def test_errors_of_the_system_are_given_without_their_number():
    assert files.error_message(OSError(errno.ENOSPC, "No space left on device")) == "No space left on device"
    assert files.error_message(FileNotFoundError(errno.ENOENT, "No such file", "a.png")) == "a.png: No such file"
    assert files.error_message(OSError("Ray gave up")) == "Ray gave up"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_is_read_with_and_without_a_byte_order_mark(tmp_path, encoding):
    (tmp_path / "table.csv").write_bytes("image,EN\nété,1\n".encode(encoding))
    assert files.read_text(tmp_path / "table.csv") == "image,EN\nété,1\n"


def test_bytes_that_are_no_text_are_kept(tmp_path):
    (tmp_path / "table.csv").write_bytes(b"caf\xe9,1")
    assert files.read_text(tmp_path / "table.csv").encode(errors="surrogateescape") == b"caf\xe9,1"


def test_a_folder_is_locked_once(tmp_path):
    again = files.locked(tmp_path)
    with files.locked(tmp_path), pytest.raises(files.FolderBusyError, match="in use by another run, process"):
        again.__enter__()
    with files.locked(tmp_path):
        assert (tmp_path / ".lock").is_file()


def test_a_system_without_fcntl_is_warned_of(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "fcntl", None)
    with pytest.warns(UserWarning, match="can't be locked here"), files.locked(tmp_path / "run"):
        assert (tmp_path / "run" / ".lock").is_file()
