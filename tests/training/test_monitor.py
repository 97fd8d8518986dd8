"""Scalars come back as `Monitor` wrote them, over interruptions."""

import pytest

from rpfnet_jax.training.monitor import Monitor, read_scalars


def write(workdir, first, values):
    with Monitor(workdir, first, 100, patience=10) as monitor:
        for step, value in values.items():
            monitor.scalars(step, {"train/total": value, "train/nan": float("nan")})


@pytest.fixture
def one_after_the_other(monkeypatch):
    """The files of a run are named by the second, and by process and host."""
    seconds = iter(range(1_000_000_000, 1_000_001_000))
    monkeypatch.setattr("tensorboardX.event_file_writer.time.time", lambda: next(seconds))


def test_scalars_are_read_back(tmp_path):
    write(tmp_path, 0, {1: 0.5, 2: 0.25, 3: 0.125})
    assert read_scalars(tmp_path) == {"train/total": [(1, 0.5), (2, 0.25), (3, 0.125)]}


def test_steps_that_were_made_again_count_once(tmp_path, one_after_the_other):
    write(tmp_path, 0, {1: 1.0, 2: 2.0, 3: 3.0, 4: 4.0})
    # Resumed after step 2; step 4 has not come yet.
    write(tmp_path, 2, {3: 30.0})
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2
    assert read_scalars(tmp_path) == {"train/total": [(1, 1.0), (2, 2.0), (3, 30.0)]}


def test_files_are_read_in_the_order_they_were_begun_whatever_the_clock_says(tmp_path, monkeypatch):
    times = iter(range(2_000_000_000, 1_000_000_000, -1_000))
    monkeypatch.setattr("tensorboardX.event_file_writer.time.time", lambda: next(times))
    write(tmp_path, 0, {1: 1.0, 2: 2.0, 3: 3.0, 4: 4.0})
    write(tmp_path, 2, {3: 30.0})
    assert read_scalars(tmp_path) == {"train/total": [(1, 1.0), (2, 2.0), (3, 30.0)]}


def test_a_record_that_was_cut_off_is_left_out(tmp_path):
    write(tmp_path, 0, {1: 1.0, 2: 2.0})
    (path,) = (tmp_path / "tensorboard").iterdir()
    path.write_bytes(path.read_bytes()[:-3])
    assert read_scalars(tmp_path) == {"train/total": [(1, 1.0)]}


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no scalars of a training"):
        read_scalars(tmp_path)
    write(tmp_path, 0, {1: 1.0})
    (path,) = (tmp_path / "tensorboard").iterdir()
    path.write_bytes((50).to_bytes(8, "little") + bytes(4) + b"\xff" * 54)
    with pytest.raises(ValueError, match=r"tfevents.*damaged"):
        read_scalars(tmp_path)
