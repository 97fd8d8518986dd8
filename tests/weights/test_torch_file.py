"""Files of `torch.save`: what is read without torch, and what is refused. The files are made here, without torch."""

import pickle
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from rpfnet_jax.weights import WeightsError, load_weights, to_torch
from rpfnet_jax.weights.torch_file import read_torch_archive

PROTOCOL, STOP, REDUCE, EMPTY_DICT, MARK, SETITEMS, NONE = b"\x80\x02", b".", b"R", b"}", b"(", b"u", b"N"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def name(module: str, attribute: str) -> bytes:
    return b"c" + f"{module}\n{attribute}\n".encode()


def integer(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def numbers(values) -> bytes:
    return MARK + b"".join(map(integer, values)) + b"t"


def storage(key: str, count: int, kind: str = "FloatStorage") -> bytes:
    """A persistent id as torch writes it."""
    return MARK + text("storage") + name("torch", kind) + text(key) + text("cuda:0") + integer(count) + b"t" + b"Q"


def tensor(key, shape, *, stride=None, offset=0, count=None, kind="FloatStorage") -> bytes:
    stride = stride if stride is not None else [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    count = int(np.prod(shape)) if count is None else count
    hooks = name("collections", "OrderedDict") + b")" + REDUCE
    arguments = storage(key, count, kind) + integer(offset) + numbers(shape) + numbers(stride) + b"\x89" + hooks
    return name("torch._utils", "_rebuild_tensor_v2") + MARK + arguments + b"t" + REDUCE


def mapping(items: dict[str, bytes]) -> bytes:
    body = b"".join(text(key) + value for key, value in items.items())
    return name("collections", "OrderedDict") + b")" + REDUCE + MARK + body + SETITEMS


def write(path, body: bytes, storages=(), compression=zipfile.ZIP_STORED, extra=()):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", PROTOCOL + body + STOP)
        for key, values in dict(storages).items():
            archive.writestr(f"archive/data/{key}", np.ascontiguousarray(values).tobytes())
        for member, content in dict(extra).items():
            archive.writestr(member, content)
    return path


def write_state_dict(path, tensors, **options):
    """A state dict as `torch.save(model.state_dict(), path)` lays it out."""
    kinds = {"f": "FloatStorage", "i": "LongStorage"}
    body = mapping({key: tensor(key, value.shape, kind=kinds[value.dtype.kind]) for key, value in tensors.items()})
    return write(path, options.pop("wrap", lambda inner: inner)(body), tensors, **options)


# (((1,), (1,)), ((1,), (1,))), ... 40 levels in a few hundred bytes.
NESTED = b"K\x01\x85q\x010" + b"h\x01h\x01\x86q\x010" * 40 + b"h\x01"
ONE = np.arange(6, dtype=np.float32)


def test_reads_strided_views_of_a_shared_storage(tmp_path):
    items = {
        "whole": tensor("0", (2, 3)),
        "transposed": tensor("0", (3, 2), stride=(1, 3)),
        "part": tensor("0", (2,), offset=4, count=6),
        "scalar": tensor("1", (), count=1, kind="LongStorage"),
        "empty": tensor("0", (0, 3), count=6),
    }
    path = write(tmp_path / "a.pth", mapping(items), {"0": ONE, "1": np.array([7])})
    tensors, _ = read_torch_archive(path)
    np.testing.assert_array_equal(tensors["whole"], ONE.reshape(2, 3))
    np.testing.assert_array_equal(tensors["transposed"], ONE.reshape(2, 3).T)
    np.testing.assert_array_equal(tensors["part"], [4, 5])
    assert tensors["scalar"] == 7
    assert tensors["empty"].shape == (0, 3)


class _CallsSystem:
    def __reduce__(self):
        import os

        return os.system, ("touch touched",)


class _Evaluates:
    def __reduce__(self):
        return eval, ("open('touched', 'w')",)


@pytest.mark.parametrize(
    ("payload", "refused"),
    [
        (_CallsSystem(), r"(posix|nt)\.system"),
        (_Evaluates(), r"(builtins|__builtin__)\.eval"),
        (OrderedDict(x=_CallsSystem()), r"(posix|nt)\.system"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_that_calls_something_is_refused_by_name_and_not_run(
    tmp_path, monkeypatch, payload, refused, protocol
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(payload, protocol=protocol))
    with pytest.raises(WeightsError, match=rf"evil\.pth: refused: its pickle refers to {refused}"):
        load_weights(path)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (name("torch.nn.modules.conv", "Conv2d") + b")\x81" + integer(3) + b"b", "state that is no dict"),
        (name("collections", "Counter") + b")" + REDUCE, r"collections\.Counter"),
        (name("torch", "HalfStorage") + b")" + REDUCE, r"torch\.HalfStorage; only float32"),
        (name("torch.jit", "_unpickle") + b")" + REDUCE, r"torch\.jit\._unpickle"),
        (b"I1\n", "uses INT "),
        (b"(i" + b"os\nsystem\n", "uses INST "),
        (b"\x82\x01", "uses EXT1 "),
        # A memo slot that the standard library would allocate the memory up to.
        (NONE + b"r\xff\xff\xff\x7f", "holds no tensors"),
        # What the standard library would hash recursively: a crash, and six hours.
        (EMPTY_DICT + b")" + b"\x85" * 200_000 + b"K\x01s", "neither names nor small numbers"),
        (EMPTY_DICT + NESTED + b"K\x01s", "neither names nor small numbers"),
        # The same in places that could end up in messages.
        (
            MARK + text("storage") + name("torch", "FloatStorage") + text("0") + text("cpu") + NESTED + b"tQ",
            "unknown type, name or length",
        ),
        (tensor("0", (1,) * 9, count=6), "invalid size or stride"),
        # State for things that take none: it would stay beyond this file.
        (name("torch", "FloatStorage") + b"N}" + text("__name__") + text("LongStorage") + b"s\x86b", "takes none"),
        (tensor("0", (6,)) + b"N}" + text("array") + text("boom") + b"s\x86b", "takes none"),
        (name("torch.nn.modules.conv", "Conv2d") + b")\x81}b}b", "takes none"),
        (name("collections", "OrderedDict") + b"}\x85" + REDUCE, "a dict from another one"),
        (name("torch._utils", "_rebuild_tensor_v2") + MARK + b"N" * 9 + b"t" + REDUCE, "too many arguments"),
        (name("torch", "FloatStorage") + b")\x81", "an object that is no module"),
        (b"\x8a\x09" + b"\xff" * 8 + b"\x7f", "beyond 64 bits"),
        (text("os\n") + text(".a\nb") + b"\x93", r"os\\n\.\.a\\nb"),
        (EMPTY_DICT + b"K\x01" + tensor("0", (6,)) + b"s", "names are no text"),
        (tensor("0", (3, 3)), "holds 6 float32 values, not 9"),
        (tensor("0", (3, 3), count=6), "does not fit its storage of 6"),
        (tensor("0", (2, 3), stride=(0, 0), offset=9, count=6), "does not fit"),
        (tensor("0", (1000, 1000), stride=(0, 0), count=6), "does not fit"),
        (tensor("0", (-1,), count=6), "impossible size"),
        (tensor("nowhere", (6,)), "storage data/nowhere is missing"),
        (tensor("0", (3,), kind="LongStorage"), "holds|multiple"),
        (tensor("0", (6,)) + MARK + integer(1) + b"tb", "takes none"),
        (text("x") + b"Q", "no storage"),
        (name("torch._utils", "_rebuild_tensor_v2") + numbers([1, 2, 3, 4]) + REDUCE, "no storage"),
        (name("torch._utils", "_rebuild_tensor_v2") + b")" + REDUCE, "malformed"),
        (EMPTY_DICT, "found: none"),
        (integer(3), "no tensors"),
        (REDUCE, "malformed"),
        (b"", "malformed"),
    ],
)
@pytest.mark.usefixtures("as_users_run_it")
def test_malformed_pickles_are_one_clear_error(tmp_path, body, message):
    path = write(tmp_path / "bad.pth", body, {"0": ONE})
    with pytest.raises(WeightsError, match=message) as caught:
        read_torch_archive(path)
    assert "bad.pth" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_module_that_contains_itself_ends(tmp_path):
    state = EMPTY_DICT + MARK + text("_modules") + EMPTY_DICT + MARK + text("self") + b"h\x00" + SETITEMS + SETITEMS
    body = name("torch.nn.modules.conv", "Conv2d") + b")\x81" + b"q\x00" + state + b"b"
    with pytest.raises(WeightsError, match="inside each other"):
        read_torch_archive(write(tmp_path / "loop.pth", body))


def module(**parts: bytes) -> bytes:
    """A module of any class with this state."""
    state = EMPTY_DICT + MARK + b"".join(text(key) + value for key, value in parts.items()) + SETITEMS
    return name("torch.nn.modules.conv", "Conv2d") + b")\x81" + state + b"b"


def test_modules_inside_each_other_many_times_end(tmp_path):
    body = module() + b"q\x010"
    for _ in range(40):
        twice = EMPTY_DICT + MARK + text("a") + b"h\x01" + text("b") + b"h\x01" + SETITEMS
        body += module(_modules=twice) + b"q\x010"
    with pytest.raises(WeightsError, match="inside each other"):
        read_torch_archive(write(tmp_path / "wide.pth", body + b"h\x01"))


@pytest.mark.parametrize("key", ["a", "a" * 900])
def test_walking_through_modules_takes_bounded_work(tmp_path, key):
    """Few modules with many parameters, or with long names, that are reached on many ways."""
    entries = {text(f"{key}{index}"): NONE for index in range(300)}
    many = EMPTY_DICT + MARK + b"".join(name + value for name, value in entries.items()) + SETITEMS
    body = module(_parameters=many) + b"q\x010"
    for _ in range(12):
        body += module(_modules=EMPTY_DICT + MARK + text("a") + b"h\x01" + text("b") + b"h\x01" + SETITEMS) + b"q\x010"
    with pytest.raises(WeightsError, match="too many modules inside each other"):
        read_torch_archive(write(tmp_path / "wide.pth", body + b"h\x01"))


def test_a_network_inside_data_parallel_keeps_its_attributes(tmp_path):
    weight = EMPTY_DICT + MARK + text("weight") + tensor("0", (6,)) + SETITEMS
    inside = EMPTY_DICT + MARK + text("module") + module(num_iterations=integer(5), _parameters=weight) + SETITEMS
    tensors, attributes = read_torch_archive(write(tmp_path / "p.pth", module(_modules=inside), {"0": ONE}))
    assert attributes == {"num_iterations": 5}
    assert list(tensors) == ["module.weight"]


def test_copies_of_a_storage_cost_nothing(tmp_path):
    items = {str(index): tensor("0", (6,)) for index in range(50)}
    tensors, _ = read_torch_archive(write(tmp_path / "views.pth", mapping(items), {"0": ONE}))
    assert len({value.__array_interface__["data"][0] for value in tensors.values()}) == 1
    assert not any(value.flags.writeable for value in tensors.values())


def test_encrypted_members_and_two_of_one_name_are_refused(tmp_path):
    path = write(tmp_path / "locked.pth", mapping({}))
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="encrypted"):
        load_weights(path)
    path = write(tmp_path / "twice.pth", mapping({}), {"0": ONE})
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/data/0", b"1234")
    with pytest.raises(WeightsError, match="two members of one name"):
        load_weights(path)


def test_zip_bombs_are_refused_unread(tmp_path):
    zeros = np.zeros(10_000_000, np.float32)
    packed = write(
        tmp_path / "packed.pth", mapping({"x": tensor("0", zeros.shape)}), {"0": zeros}, zipfile.ZIP_DEFLATED
    )
    assert packed.stat().st_size < 100_000
    with pytest.raises(WeightsError, match=r"packed\.pth: .* is compressed"):
        load_weights(packed)
    # Two directory entries for the bytes of one member.
    path = write(tmp_path / "overlap.pth", mapping({"x": tensor("0", ONE.shape)}), {"0": np.tile(ONE, 1000)})
    with zipfile.ZipFile(path, "a") as archive:
        member = archive.getinfo("archive/data/0")
        twin = zipfile.ZipInfo("archive/data/1")
        for field in ("header_offset", "file_size", "compress_size", "CRC"):
            setattr(twin, field, getattr(member, field))
        archive.filelist.append(twin)
        archive.NameToInfo[twin.filename] = twin
        archive._didModify = True
    with pytest.raises(WeightsError, match="zip bomb"):
        load_weights(path)


def test_other_zips_and_old_files_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(WeightsError, match="no FOLDER/data"):
        load_weights(tmp_path / "other.zip")
    (tmp_path / "old.pth").write_bytes(pickle.dumps({"x": 1}))
    with pytest.raises(WeightsError, match=r"old\.pth is a bare pickle"):
        load_weights(tmp_path / "old.pth")
    path = write(tmp_path / "big.pth", mapping({}), extra={"archive/byteorder": b"big"})
    with pytest.raises(WeightsError, match="big-endian"):
        load_weights(path)


@pytest.fixture(scope="module")
def checkpoint(released_path):
    return read_torch_archive(released_path)


def test_every_tensor_is_used_or_dropped_by_name_and_comes_back_bit_equal(released_path, checkpoint):
    tensors, attributes = checkpoint
    weights = load_weights(released_path)
    returned = to_torch(weights.variables)
    dropped = weights.provenance["converted"]["dropped"]
    assert all(tensor.endswith(".num_batches_tracked") for tensor in dropped)
    assert sorted([*returned, *dropped]) == sorted(tensors)
    for key, value in returned.items():
        assert value.dtype == tensors[key].dtype
        np.testing.assert_array_equal(value, tensors[key])
    assert sum(returned[key].size for key in returned if "running_" not in key) == 72_074
    assert weights.model.stages == attributes["num_iterations"] == 3


@pytest.mark.parametrize("keep", [0.999, 0.5, 100])
def test_a_truncated_download_is_refused(released_path, tmp_path, keep):
    content = released_path.read_bytes()
    size = int(keep * len(content)) if keep < 1 else keep
    (tmp_path / "part.pth").write_bytes(content[:size])
    with pytest.raises(WeightsError, match=r"part\.pth is a damaged or truncated torch file"):
        load_weights(tmp_path / "part.pth")


def test_a_flipped_bit_is_noticed(released_path, tmp_path):
    content = bytearray(released_path.read_bytes())
    with zipfile.ZipFile(released_path) as archive:
        largest = max(archive.infolist(), key=lambda info: info.file_size)
    content[largest.header_offset + largest.file_size // 2] ^= 1
    (tmp_path / "flipped.pth").write_bytes(content)
    with pytest.raises(WeightsError, match="damaged"):
        load_weights(tmp_path / "flipped.pth")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda body: body,
        lambda body: EMPTY_DICT + MARK + text("epoch") + integer(3) + text("model") + body + SETITEMS,
    ],
    ids=["bare", "in a training script's dict"],
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_state_dicts_give_the_same_network(released_path, checkpoint, tmp_path, wrap, prefix):
    tensors = {f"{prefix}{key}": value for key, value in checkpoint[0].items()}
    loaded = load_weights(write_state_dict(tmp_path / "state.pth", tensors, wrap=wrap))
    expected = to_torch(load_weights(released_path).variables)
    for key, value in to_torch(loaded.variables).items():
        np.testing.assert_array_equal(value, expected[key])


def test_what_does_not_fit_is_named(checkpoint, tmp_path):
    tensors = dict(checkpoint[0])
    del tensors["decoder.6.bias"]
    tensors["extra.weight"] = ONE
    tensors["init_freq.0.weight"] = tensors["init_freq.0.weight"][:, :1]
    tensors["decoder.0.bias"] = np.zeros(32, np.int64)
    with pytest.raises(WeightsError) as caught:
        load_weights(write_state_dict(tmp_path / "state.pth", tensors))
    for part in (
        "missing decoder.6.bias",
        "unknown extra.weight",
        "init_freq.0.weight is (32, 1, 3, 3) instead of (32, 2, 3, 3)",
        "decoder.0.bias is int64 instead of float32",
    ):
        assert part in str(caught.value)


def test_two_networks_in_one_file_are_not_guessed_between(tmp_path):
    body = EMPTY_DICT + MARK + text("a") + mapping({"x": tensor("0", (6,))})
    body += text("b") + mapping({"x": tensor("0", (6,))}) + SETITEMS
    with pytest.raises(WeightsError, match="found: a, b"):
        load_weights(write(tmp_path / "two.pth", body, {"0": ONE}))
