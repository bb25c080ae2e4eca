"""The developers' command: what it decides before anything heavy starts."""

import os
import subprocess
import sys

import pytest
from pulid_pack.devtools.comfyui import ROOT


def run_dev(*arguments, **environment):
    """As from a terminal, with the standard library alone."""
    command = [sys.executable, "-S", str(ROOT / "dev.py"), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def test_help_needs_nothing_installed():
    told = run_dev("--help").stdout
    assert "demo" in told
    assert "test" in told


@pytest.mark.parametrize("command", ["models", "convert"])
def test_what_users_type_says_where_it_went(command):
    result = run_dev(command, "a.json", "b.json")
    assert result.returncode == 2
    assert "type pulid.py in place of dev.py" in result.stdout


@pytest.mark.parametrize(
    "arguments", [["--live"], ["--remote", "--yes"], ["--remote", "--models", "m"], ["--nonsense"]]
)
def test_arguments_that_do_not_fit_are_refused(arguments):
    result = run_dev("demo", *arguments)
    assert result.returncode == 2
    assert "error:" in result.stderr


def test_live_without_a_key_sets_nothing_up():
    result = run_dev("demo", "--remote", "--live", WAVESPEED_API_KEY="")
    assert result.returncode == 1
    assert result.stdout == (
        "\n--live needs a WaveSpeed key: set WAVESPEED_API_KEY, then run it again.\n"
    )


@pytest.mark.parametrize("argument", ["--photo", "--models"])
def test_a_demo_of_what_is_not_there_sets_nothing_up(argument):
    result = run_dev("demo", argument, "absent")
    assert result.returncode == 1
    assert "absent" in result.stdout
    assert "Installing" not in result.stdout
