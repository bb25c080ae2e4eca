"""The developer command: what it decides before anything heavy starts."""

import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from pulid_pack import dev


def test_help_needs_nothing_installed():
    """Not even site-packages: the standard library alone."""
    command = [sys.executable, "-I", "-S", str(dev.ROOT / "dev.py"), "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "demo" in result.stdout
    assert "test" in result.stdout


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
