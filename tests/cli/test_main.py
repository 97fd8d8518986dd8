"""The registry of commands, and what all commands have in common."""

import argparse
import importlib.metadata
import os
import subprocess
import sys
import warnings
from types import ModuleType, SimpleNamespace

import pytest

from rpfnet_jax.cli import commands, main
from rpfnet_jax.cli.arguments import expanded, named_path, user_path
from rpfnet_jax.cli.commands import COMMANDS
from rpfnet_jax.runtime import BackendError, Limits
from tests.cli.helpers import one_line

HELP = """
import sys
from rpfnet_jax.cli import main
try:
    main(["--help"])
finally:
    assert not {"jax", "numpy", "ml_collections"} & set(sys.modules)
"""


def test_help_lists_the_commands_without_importing_jax():
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    for name, (_, summary) in COMMANDS.items():
        assert f"  {name} " in done.stdout
        assert summary in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_describes_itself(capsys, name):
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    _, summary = COMMANDS[name]
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: rpfnet {name} ")
    assert f"\n\n{summary}\n\nrpfnet {name} " in shown


@pytest.mark.parametrize("arguments", [[], ["fly"], ["convert"], ["calibrate", "w.safetensors"], ["train"]])
def test_wrong_usage_is_code_2(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: rpfnet" in capsys.readouterr().err


def actions(parser):
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from actions(inner)


PATHS = "ir vis out fused csv data source figure workdir table weights config align methods runs"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_path_is_expanded(name):
    parser = argparse.ArgumentParser()
    module, _ = COMMANDS[name]
    getattr(importlib.import_module(f"rpfnet_jax.cli.{module}"), f"add_{name}")(parser)
    for action in actions(parser):
        taken = not isinstance(action, argparse._StoreConstAction)
        assert (action.type in (expanded, named_path, user_path)) == (taken and action.dest in PATHS.split()), action


def test_the_home_folder_in_paths(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/a") == named_path("RPFNet=~/a").path == tmp_path / "a"
    assert user_path("~") == tmp_path
    assert expanded("./flir") == "./flir"
    assert str(user_path("~backup.png")) == "~backup.png"
    with pytest.raises(argparse.ArgumentTypeError, match="must be the name of a file or folder, got ''"):
        user_path("")
    monkeypatch.setattr("os.path.expanduser", lambda text: text)
    with pytest.raises(argparse.ArgumentTypeError, match="~/a: this user has no home folder"):
        user_path("~/a")


@pytest.fixture
def command(monkeypatch):
    """Registers a command `test` that runs a function."""

    def register(function):
        parse = argparse.Namespace(run=lambda options: function())
        monkeypatch.setattr(commands, "_parse", lambda arguments: parse)

    return register


def raising(error):
    def function():
        raise error

    return function


@pytest.mark.parametrize("error", [AssertionError(), RuntimeError("Unable to initialize backend")])
def test_a_backend_that_does_not_start_is_one_line(rpfnet, command, monkeypatch, error):
    command(raising(error))
    monkeypatch.setattr(commands, "start_backend", raising(BackendError("JAX can't start")))
    assert one_line(rpfnet("test")) == "JAX can't start"
    monkeypatch.setattr(commands, "start_backend", lambda: None)
    with pytest.raises(type(error)):
        rpfnet("test")


@pytest.mark.filterwarnings("default")
def test_warnings_are_one_line(rpfnet, command):
    command(lambda: warnings.warn("something was guessed", stacklevel=1))
    assert rpfnet("test") == (0, "", "warning: something was guessed\n")


def test_control_c_during_imports_is_no_traceback(rpfnet, monkeypatch):
    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "importlib", SimpleNamespace(import_module=interrupted))
    assert rpfnet("fuse", "--help") == (130, "", "interrupted\n")

    class Unfinished(ModuleType):
        def __getattr__(self, name):
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "rpfnet_jax.cli.commands", Unfinished("commands"))
    assert rpfnet("fuse", "--help") == (130, "", "interrupted\n")


IMPORTING = """
import os, signal, sys
from rpfnet_jax.cli import commands, main

class Importing:
    def import_module(self, name):
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("Encountered an error while initializing the extension.")

commands.importlib = Importing()
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main(["fuse"]))
"""


def test_control_c_that_an_extension_swallows_ends_the_process():
    done = subprocess.run([sys.executable, "-c", IMPORTING], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


PRINTING = """
import sys
from rpfnet_jax.cli import commands, main
commands._parse = lambda arguments: None
commands._carry_out = lambda options: print("a table")
sys.exit(main([]))
"""


@pytest.fixture(params=["", "1"], ids=["buffered", "unbuffered"])
def printing(request, monkeypatch):
    monkeypatch.setenv("PYTHONUNBUFFERED", request.param)
    return [sys.executable, "-c", PRINTING]


def test_a_closed_pipe_is_no_error(printing):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(printing, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has /dev/full")
def test_output_that_cannot_be_written_is_an_error(printing):
    with open("/dev/full", "w") as full:
        done = subprocess.run(printing, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr in ("error: standard output: No space left on device\n", "error: No space left on device\n")


@pytest.mark.parametrize("name", ["fuse", "metrics", "psd", "strip", "video"])
def test_the_same_file_or_folder_on_both_sides_is_refused(rpfnet, tmp_path, name):
    (tmp_path / "ir").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "ir")
    needed = {"metrics": ["--fused=x"], "psd": ["A=x"]}.get(name, [f"--out={tmp_path / 'out'}"])
    done = rpfnet(name, f"--ir={tmp_path / 'ir'}", f"--vis={tmp_path / 'link'}", *needed)
    assert one_line(done) == f"--ir={tmp_path / 'ir'} and --vis={tmp_path / 'link'} are the same folder"
    assert not (tmp_path / "out").exists()


def test_the_doctor_says_what_is_there(rpfnet, weights_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    done = rpfnet("doctor", f"--weights={weights_path}")
    assert (done.code, done.err) == (0, "")
    lines = {line[:14].rstrip(): line[14:] for line in done.out.splitlines()}
    assert lines["extra align"] == 'OpenCV is missing: pip install "rpfnet-jax[align]"'
    assert lines["extra video"] == "PyAV is there"
    assert "JAX_PLATFORMS=cpu" in lines["environment"]
    assert f"jax {importlib.metadata.version('jax')}," in lines["libraries"]
    assert "GiB available of " in lines["memory"]
    assert " entries, " in lines["compile cache"]
    assert lines["devices"].startswith("cpu:0 (cpu)")
    assert lines["fused scene"].startswith("320x240 in ")


def test_the_doctor_says_what_it_can_where_jax_does_not_start(rpfnet, monkeypatch):
    monkeypatch.setattr("rpfnet_jax.cli.doctor.start_backend", raising(BackendError("JAX can't start")))
    monkeypatch.setattr("rpfnet_jax.cli.doctor.read_limits", lambda: Limits(2**30, 0, 0.5))
    done = rpfnet("doctor")
    assert one_line(done) == "JAX can't start"
    assert "limit of this container or job: 1.0 GiB\n" in done.out
    assert "limit of this container or job: 0.5\n" in done.out
