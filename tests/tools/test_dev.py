"""The developer command: what it decides before anything heavy starts."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from pulid_pack import dev
from pulid_pack.tests.old_workflows import old_graphs

BARE = """
import runpy, sys
del sys.argv[0]
sys.modules |= dict.fromkeys(["venv", "ensurepip", "tkinter"])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_bare(*arguments):
    """Run dev.py as portable ComfyUI's Python does: the standard library alone, without venv."""
    command = [sys.executable, "-I", "-S", "-c", BARE, dev.ROOT / "dev.py", *arguments]
    result = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert result.stderr == ""
    return result


def run_convert(*arguments):
    return run_bare("convert", *arguments)


def test_help_needs_nothing_installed():
    result = run_bare("--help")
    assert "demo" in result.stdout
    assert "test" in result.stdout


def test_models_needs_nothing_installed(tmp_path):
    assert "PuLID lacks 5 of its files" in run_bare("models", "--models", tmp_path).stdout


def test_what_the_terminal_cannot_write_is_escaped(tmp_path):
    """As on a Windows whose code page lacks the characters, with the output in a file."""
    file = tmp_path / "模型" / "pulid" / "pulid_flux_v0.9.1.safetensors"
    file.parent.mkdir(parents=True)
    file.touch()
    result = subprocess.run(
        [sys.executable, dev.ROOT / "dev.py", "models", "--models", tmp_path / "模型"],
        env=os.environ | {"PYTHONIOENCODING": "cp1252"},
        capture_output=True,
        check=True,
    )
    assert rb"\u6a21\u578b" in result.stdout


def test_convert_needs_nothing_installed(tmp_path):
    """And tells what is lost."""
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text(json.dumps(old_graphs.prompt(old_graphs.SIPIE)))
    result = run_convert(old, new)
    assert result.returncode == 0
    assert "2 of our nodes" in result.stdout
    assert "* PulidApplyFlux (node 6): the fusion mode auto_weight is gone." in result.stdout
    assert json.loads(new.read_text())["6"]["class_type"] == "PulidApplyFlux"


def test_convert_refuses_what_it_cannot_do(tmp_path):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text("{}")
    good, absent = tmp_path / "good.json", tmp_path / "absent"
    good.write_text(json.dumps(old_graphs.prompt(old_graphs.SIPIE)))
    before = good.read_text()
    half = tmp_path / "half.json"
    half.write_text(before.replace("a.png", "\\ud83d"))
    for source, target, reason in (
        (old, new, "cannot be converted: A ComfyUI workflow"),
        (good, good, "overwrite"),
        (half, new, "surrogates not allowed"),
        (absent, new, "No such file"),
        (absent, good, "No such file"),
        (good, absent / "new.json", "No such file"),
        (good, tmp_path, "Is a directory"),
    ):
        result = run_convert(source, target)
        assert result.returncode == 1
        assert reason in result.stdout
    assert good.read_text() == before
    assert not new.exists()


def test_convert_reads_what_notepad_saved(tmp_path):
    """With a byte order mark."""
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text(json.dumps(old_graphs.prompt(old_graphs.SIPIE)), encoding="utf-8-sig")
    assert run_convert(old, new).returncode == 0
    assert json.loads(new.read_bytes())["6"]["class_type"] == "PulidApplyFlux"


def test_one_failed_step_fails_the_summary(capsys):
    steps = [dev.Step("lint", "ok (1 s)"), dev.Step("types", "FAILED (exit status 1) (2 s)")]
    assert dev.summarise(steps, 3) == 1
    assert "FAILED: types, in 3 s" in capsys.readouterr().out
    assert dev.summarise(steps[:1], 1) == 0
    assert "All passed, in 1 s" in capsys.readouterr().out
    assert dev.summarise([*steps[:1], dev.Step("browser", "not run: no Chromium")], 1) == 0
    assert "All passed, but not run: browser, in 1 s" in capsys.readouterr().out


def test_skipped_tests_are_listed_with_their_reason():
    report = ElementTree.fromstring(  # noqa: S314 - written right here
        '<testsuite><testcase classname="a" name="b"><skipped message="no GPU"/></testcase>'
        '<testcase classname="a" name="c"/></testsuite>'
    )
    assert dev.skipped_tests(report) == ["skipped: a.b: no GPU"]


def test_a_second_set_up_installs_nothing(tmp_path, monkeypatch):
    """And a changed requirement does; an interrupted one is taken up again."""
    (tmp_path / "requirements.txt").write_text("torch")
    installed = []
    monkeypatch.setattr(dev, "VENV", tmp_path)
    monkeypatch.setattr(dev, "make_venv", lambda: None)
    monkeypatch.setattr(dev, "provide", lambda *_, **__: tmp_path)
    monkeypatch.setattr(dev, "pip", lambda *arguments: installed.append(arguments))
    dev.set_up()
    assert installed
    installed.clear()
    dev.set_up()
    assert not installed

    (tmp_path / "requirements.txt").write_text("torch>2")
    monkeypatch.setattr(dev, "pip", lambda *_: (_ for _ in ()).throw(dev.SetupError("no network")))
    with pytest.raises(dev.SetupError):
        dev.set_up()
    monkeypatch.setattr(dev, "pip", lambda *arguments: installed.append(arguments))
    dev.set_up()
    assert installed


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

    monkeypatch.setattr(dev, "ROOT", tmp_path)
    monkeypatch.setattr(dev, "VENV", tmp_path)
    monkeypatch.setattr(dev, "BOUNDS", tmp_path / "bounds")
    monkeypatch.setattr(dev, "pip", lambda *_: (_ for _ in ()).throw(dev.SetupError("no network")))
    with pytest.raises(dev.SetupError):
        dev.install_end(end)
    monkeypatch.setattr(dev, "pip", pip)
    folder = dev.install_end(end)
    assert calls == [["--no-deps", "--target", str(folder), *installed]]
    assert dev.install_end(end) == folder
    assert len(calls) == 1
    requirements.write_text("face>=2.1,<3\n")
    dev.install_end(end)
    assert len(calls) == 2
    python.write_text("version = 3.11.0")
    dev.install_end(end)
    assert len(calls) == 3
    monkeypatch.setattr(dev.time, "strftime", lambda *_: "tomorrow")
    dev.install_end(end)
    assert len(calls) == (4 if end == "newest" else 3)


SOUND = {"name": "timm", "version": "1.0.31", "vulns": []}
WEAK = {"name": "timm", "version": "1.0.24", "vulns": [{"id": "CVE-1"}]}
UNKNOWN = {"name": "timm", "skip_reason": "not found on PyPI: timm (1.0.31)"}
OFFLINE = "Traceback ...\nrequests.exceptions.ConnectionError: no route"


@pytest.mark.parametrize(
    ("packages", "errors", "outcome", "details"),
    [
        ([SOUND, SOUND], "", "ok (2 packages)", []),
        ([SOUND, UNKNOWN], "", "ok (1 packages)", ["not known: timm"]),
        ([SOUND, WEAK], "", "FAILED (known vulnerabilities)", ["timm 1.0.24: CVE-1"]),
        ([UNKNOWN, UNKNOWN], "", "not run", [UNKNOWN["skip_reason"]]),
        (None, OFFLINE, "not run", [OFFLINE.splitlines()[1]]),
        (None, "No module named pip_audit", "FAILED", ["No module named pip_audit"]),
    ],
)
def test_an_audit_without_an_answer_is_no_success(packages, errors, outcome, details):
    report = json.dumps({"dependencies": packages}) if packages else ""
    assert dev.audited(report, errors) == dev.Step("pip-audit", outcome, details)


@pytest.mark.parametrize(
    "arguments", [["--live"], ["--remote", "--yes"], ["--remote", "--models", "m"], ["--nonsense"]]
)
def test_arguments_that_do_not_fit_are_refused(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["dev.py", "demo", *arguments])
    with pytest.raises(SystemExit):
        dev.main()
    assert "error:" in capsys.readouterr().err


def test_live_without_a_key_sets_nothing_up(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["dev.py", "demo", "--remote", "--live"])
    monkeypatch.delenv("WAVESPEED_API_KEY", raising=False)
    monkeypatch.setattr(dev, "set_up", lambda: pytest.fail("set up"))
    assert dev.main() == 1
    assert "set WAVESPEED_API_KEY" in capsys.readouterr().out
