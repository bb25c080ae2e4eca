"""The developer command: what it decides before anything heavy starts."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from pulid_pack import dev
from pulid_pack.tests.core import old_graphs


def test_help_needs_nothing_installed():
    """Not even site-packages: the standard library alone."""
    command = [sys.executable, "-I", "-S", str(dev.ROOT / "dev.py"), "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "demo" in result.stdout
    assert "test" in result.stdout


def run_convert(*arguments):
    command = [sys.executable, "-I", "-S", str(dev.ROOT / "dev.py"), "convert", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_convert_needs_nothing_installed(tmp_path):
    """And tells what is lost."""
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text(json.dumps(old_graphs.prompt(old_graphs.SIPIE)))
    result = run_convert(str(old), str(new))
    assert result.returncode == 0, result.stderr
    assert "2 of our nodes" in result.stdout
    assert "* PulidApplyFlux (node 6): the fusion mode auto_weight is gone." in result.stdout
    assert json.loads(new.read_text())["6"]["class_type"] == "PulidApplyFlux"


def test_convert_refuses_what_it_cannot_do(tmp_path):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text("{}")
    for target, reason in ((new, "cannot be converted: A ComfyUI workflow"), (old, "overwrite")):
        result = run_convert(str(old), str(target))
        assert result.returncode == 1
        assert reason in result.stdout
    assert old.read_text() == "{}"
    assert not new.exists()
    assert "No such file" in run_convert("absent.json", str(new)).stdout


def test_one_failed_step_fails_the_summary(capsys):
    steps = [dev.Step("lint", "ok (1 s)"), dev.Step("types", "FAILED (exit status 1) (2 s)")]
    assert dev.summarise(steps, 3) == 1
    assert "FAILED: types, in 3 s" in capsys.readouterr().out
    assert dev.summarise(steps[:1], 1) == 0
    assert "All passed, in 1 s" in capsys.readouterr().out


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
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("face>=2.0,<3\ncv>=4.10.0.84,<6\n")
    calls = []

    def pip(*arguments):
        calls.append(list(arguments))
        (tmp_path / "bounds" / end).mkdir(parents=True)

    monkeypatch.setattr(dev, "ROOT", tmp_path)
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
