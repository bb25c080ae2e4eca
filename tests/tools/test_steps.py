"""The steps of `dev.py test`: what runs at once, what is told, and what fails."""

import json
import xml.etree.ElementTree as ElementTree

import pytest
from pulid_pack.devtools import steps


@pytest.fixture
def logs(tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "LOGS", tmp_path)
    return tmp_path


def job(name, code):
    return steps.Job(name, ("-c", code))


def test_steps_run_at_once(logs):
    """Each waits for the other's file; told in the order in which they were given."""
    meet = (
        "import pathlib, sys, time\n"
        "mine, other = (pathlib.Path({folder!r}, name) for name in ({a!r}, {b!r}))\n"
        "mine.touch()\n"
        "for _ in range(600):\n"
        "    if other.exists(): sys.exit()\n"
        "    time.sleep(0.1)\n"
        "sys.exit(1)"
    )
    folder = str(logs)
    pair = [
        job("one", meet.format(folder=folder, a="a", b="b")),
        job("two", meet.format(folder=folder, a="b", b="a")),
    ]
    done = steps.run(pair)
    assert [step.name for step in done] == ["one", "two"]
    assert not any(step.failed for step in done)


def test_a_failure_is_told_with_what_was_printed(logs, capsys):
    (step,) = steps.run([job("lint", "print('too long'); raise SystemExit(3)")])
    assert step.failed
    assert "exit status 3" in step.outcome
    assert "too long" in capsys.readouterr().out


def test_no_selected_test_is_a_failure_unless_one_was_asked_for(logs):
    (logs / "test_one.py").write_text("def test_one(): pass")
    other = ["-k", "nothing_is_called_so"]
    alone = steps.run_pytest("core", logs, *other)
    asked = steps.run_pytest("core", logs, extra=other)
    assert steps.run([alone])[0].failed
    assert not steps.run([asked])[0].failed


def test_one_failed_step_fails_the_summary(capsys):
    summary = [steps.Step("lint", "ok (1 s)"), steps.Step("types", "FAILED (exit status 1) (2 s)")]
    assert steps.summarise(summary, 3) == 1
    assert "FAILED: types, in 3 s" in capsys.readouterr().out
    assert steps.summarise(summary[:1], 1) == 0
    assert "All passed, in 1 s" in capsys.readouterr().out
    assert steps.summarise([*summary[:1], steps.Step("browser", "not run: no Chromium")], 1) == 0
    assert "All passed, but not run: browser, in 1 s" in capsys.readouterr().out


def test_the_summary_lists_skips_with_their_reason_and_measured_values():
    report = ElementTree.fromstring(  # noqa: S314 - written right here
        '<testsuite tests="2" failures="0" errors="0" skipped="1">'
        '<testcase classname="a" name="b"><skipped message="no GPU"/></testcase>'
        '<testcase classname="a" name="c"><properties><property name="paid twice" value="0"/>'
        "</properties></testcase></testsuite>"
    )
    assert steps.report_lines(report) == [
        "2 tests, 0 failures, 0 errors, 1 skipped",
        "skipped: a.b: no GPU",
        "paid twice: 0",
    ]


def test_the_summary_holds_no_statistics_of_hypothesis(logs):
    """Its plugin writes them into every report; what a test says of itself stays."""
    (logs / "test_any.py").write_text(
        "from hypothesis import given, strategies\n\n\n"
        "@given(strategies.booleans())\n"
        "def test_any(value): pass\n\n\n"
        "def test_one(record_property): record_property('paid twice', 0)\n"
    )
    (step,) = steps.run([steps.run_pytest("core", logs, "-o", "junit_family=xunit1")])
    assert step.details == ["2 tests, 0 failures, 0 errors, 0 skipped", "paid twice: 0"]


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
    assert steps.audited(report, errors) == steps.Step("pip-audit", outcome, details)
