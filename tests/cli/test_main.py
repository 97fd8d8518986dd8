"""The registry of commands, and what all commands have in common."""

import subprocess
import sys

import pytest

from rpfnet_jax.cli import main
from rpfnet_jax.cli.commands import COMMANDS

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
