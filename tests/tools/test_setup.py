"""Setting up: once, and again when what it depends on changes."""

import re
import subprocess

import pytest
from pulid_pack.devtools import setup, tiny_stage
from pulid_pack.devtools.comfyui import ROOT


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A virtual environment in which nothing is installed; returns what pip was asked for."""
    for name in setup.REQUIREMENTS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    installed = []
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    monkeypatch.setattr(setup, "VENV", tmp_path)
    monkeypatch.setattr(setup, "make_venv", lambda: None)
    monkeypatch.setattr(setup, "check_network", lambda: None)
    monkeypatch.setattr(setup, "provide", lambda *_, **__: tmp_path)
    monkeypatch.setattr(setup, "pip", lambda *arguments: installed.append(arguments))
    return installed


def no_network(*_):
    raise setup.SetupError("no network")


@pytest.mark.parametrize("part", ["demo", "test"])
def test_a_second_set_up_installs_nothing(part, machine, tmp_path, monkeypatch):
    """And a changed requirement does; an interrupted one is taken up again."""
    setup.set_up(part)
    assert machine
    machine.clear()
    setup.set_up(part)
    assert not machine

    (tmp_path / setup.RUNTIME).write_text("torch>2")
    with monkeypatch.context() as broken:
        broken.setattr(setup, "pip", no_network)
        with pytest.raises(setup.SetupError):
            setup.set_up(part)
    setup.set_up(part)
    assert machine


def test_the_demo_installs_no_test_tools_and_needs_less_than_the_tests(machine):
    setup.set_up("demo")
    assert setup.TOOLS not in str(machine)
    setup.set_up("test")
    assert setup.TOOLS in str(machine)
    machine.clear()
    setup.stamp_of("demo").unlink()
    setup.set_up("demo")
    assert not machine


def test_the_remote_demo_asks_pip_for_no_torch(machine, monkeypatch):
    asked = []
    monkeypatch.setattr(setup, "runs", lambda *command: asked.append(command) or len(asked) > 1)
    setup.set_up_remote()
    assert machine == [("-r", str(setup.ROOT / setup.REMOTE))]
    setup.set_up_remote()
    assert len(machine) == 1
    assert all("--no-index" in command for command in asked)
    real = (ROOT / setup.REMOTE).read_text(encoding="utf-8")
    assert not re.search("^(torch|onnx|comfy)", real, re.MULTILINE)


def test_a_missing_network_is_told_after_one_try(monkeypatch, tmp_path):
    """Without pip's own minutes of retries; its last words are passed on."""
    commands = []

    def run(command, **_):
        commands.append(command)
        return subprocess.CompletedProcess(command, 1, "", "first\nERROR: no route\n")

    monkeypatch.setattr(setup.subprocess, "run", run)
    with pytest.raises(setup.SetupError, match="cannot be reached: ERROR: no route"):
        setup.check_network()
    (command,) = commands
    assert command[command.index("--retries") + 1] == "0"
    assert int(command[command.index("--timeout") + 1]) <= 10


def test_pip_says_itself_how_far_it_is(monkeypatch):
    commands = []

    def run(command, **_):
        commands.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(setup.subprocess, "run", run)
    setup.pip("torch")
    assert not [word for word in commands[0] if word.startswith(("-q", "--quiet", "--progress"))]


@pytest.mark.parametrize(
    ("end", "installed"),
    [("lowest", ["face==2.0", "cv==4.10.0.84"]), ("newest", ["face>=2.0,<3", "cv>=4.10.0.84,<6"])],
)
def test_an_end_is_installed_once_per_requirements(end, installed, tmp_path, monkeypatch):
    """The lowest exactly, the newest as pip finds it; an interrupted one is taken up again."""
    requirements, python = tmp_path / "requirements.txt", tmp_path / "pyvenv.cfg"
    requirements.write_text("face>=2.0,<3\ncv>=4.10.0.84,<6\n")
    python.write_text("version = 3.10.1")
    calls = []

    def pip(*arguments):
        calls.append(list(arguments))
        (tmp_path / "bounds" / end).mkdir(parents=True)

    monkeypatch.setattr(setup, "ROOT", tmp_path)
    monkeypatch.setattr(setup, "VENV", tmp_path)
    monkeypatch.setattr(setup, "BOUNDS", tmp_path / "bounds")
    monkeypatch.setattr(
        setup, "pip", lambda *_: (_ for _ in ()).throw(setup.SetupError("no network"))
    )
    with pytest.raises(setup.SetupError):
        setup.install_end(end)
    monkeypatch.setattr(setup, "pip", pip)
    folder = setup.install_end(end)
    assert calls == [["--no-deps", "--target", str(folder), *installed]]
    assert setup.install_end(end) == folder
    assert len(calls) == 1
    requirements.write_text("face>=2.1,<3\n")
    setup.install_end(end)
    assert len(calls) == 2
    python.write_text("version = 3.11.0")
    setup.install_end(end)
    assert len(calls) == 3
    monkeypatch.setattr(setup.time, "strftime", lambda *_: "tomorrow")
    setup.install_end(end)
    assert len(calls) == (4 if end == "newest" else 3)


def test_a_stage_that_was_made_is_known_by_its_own_stamp():
    """Both name its sources: tiny_stage when it writes, the set-up without importing it."""
    sources = [setup.ROOT / "devtools" / name for name in setup.STAGE_SOURCES]
    assert setup.digest(sources) == tiny_stage.version()


def test_a_whole_stage_is_not_made_again(tmp_path, monkeypatch):
    """Asked by its stamp, without importing torch; another source is another stage."""
    sources = [tmp_path / "devtools" / name for name in setup.STAGE_SOURCES]
    source = sources[0]
    source.parent.mkdir()
    for path in sources:
        path.write_text("1")
    made = []
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    monkeypatch.setattr(setup, "STAGE", tmp_path)
    monkeypatch.setattr(setup, "in_venv", lambda *command: made.append(command) and 0)
    setup.make_stage()
    assert made == [(source, tmp_path)]
    (tmp_path / "tiny-stage-whole").write_text(setup.digest(sources))
    setup.make_stage()
    assert len(made) == 1
    source.write_text("2")
    setup.make_stage()
    assert len(made) == 2
