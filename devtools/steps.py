"""The steps of `dev.py test`: some at a time, each with a log, a report and a line of the summary."""

import json
import os
import re
import subprocess
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .setup import CACHE, PYTHON, ROOT, say

LOGS = CACHE / "steps"
"""What each step printed, and pytest's report of it."""
LANES = min(3, 1 + (os.cpu_count() or 1))
"""Steps that run at once, one more than the least machine has cores: much of their time is waiting."""
LOOK_S = 0.2
NOT_TOLD = "hypothesis-statistics-"
"""How the properties begin that Hypothesis adds to each of its tests, pages of them encoded."""


@dataclass
class Step:
    """One line of the summary."""

    name: str
    outcome: str
    details: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether the whole command has to fail."""
        return self.outcome.startswith("FAILED")


@dataclass
class Job:
    """A command of the virtual environment's Python that becomes a step."""

    name: str
    arguments: Sequence[object]
    environment: dict[str, str] = field(default_factory=dict)
    remarks: Sequence[str] = ()
    """What the summary says below it besides."""
    tells_last_line: bool = False
    """Whether the summary holds the last line of its output."""
    allows_nothing: bool = False
    """Whether a pytest that selects no test is a success: its own arguments may name one test."""

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return LOGS / f"{self.name.replace(' ', '-')}.txt"

    @property
    def report(self) -> Path:
        """Where pytest's report goes."""
        return self.log.with_suffix(".xml")


def run_pytest(name: str, *arguments: object, extra: Sequence[str] = (), **environment: str) -> Job:
    """A job that runs pytest; `extra` are the developer's own arguments."""
    # A browser or a ComfyUI that the caller's environment names is for the steps that give them.
    job = Job(name, (), {"CHROMIUM": "", "COMFYUI_UNDER_TEST": ""} | environment)
    job.arguments = ("-m", "pytest", *arguments, f"--junitxml={job.report}", *extra)
    job.allows_nothing = bool(extra)
    if extra:
        job.remarks = [f"with pytest's own arguments: {' '.join(extra)}"]
    return job


def run(jobs: Iterable[Job]) -> list[Step]:
    """Run jobs, `LANES` at a time, in their order; each is shown as a whole when it ends."""
    LOGS.mkdir(parents=True, exist_ok=True)
    waiting, running, steps = list(jobs), {}, {}
    order = [job.name for job in waiting]
    try:
        while waiting or running:
            while waiting and len(running) < LANES:
                job = waiting.pop(0)
                say(f"== {job.name}: started")
                running[job.name] = (job, start(job), time.monotonic())
            for name, (job, process, begin) in list(running.items()):
                if process.poll() is not None:
                    del running[name]
                    steps[name] = finished(job, process.returncode, time.monotonic() - begin)
            time.sleep(LOOK_S)
    except KeyboardInterrupt:
        for _, process, _ in running.values():
            process.wait()  # it got the same Ctrl-C, and has a server to stop
        raise
    return [steps[name] for name in order]


def start(job: Job) -> subprocess.Popen:
    """Start a job with its share of the cores."""
    for path in (job.log, job.report):
        path.unlink(missing_ok=True)
    threads = str(max(1, (os.cpu_count() or 1) // LANES))
    environment = {**os.environ, "OMP_NUM_THREADS": threads, **job.environment}
    command = [str(PYTHON), *map(str, job.arguments)]
    with job.log.open("wb") as log:
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
        )


def finished(job: Job, status: int, seconds: float) -> Step:
    """Show what a job printed, and sum it up."""
    printed = job.log.read_text(encoding="utf-8", errors="replace").rstrip()
    say(f"\n== {job.name}\n{printed}\n")
    is_ok = status == 0 or (status == 5 and job.allows_nothing)  # pytest: no test selected
    outcome = "ok" if is_ok else f"FAILED (exit status {status})"
    step = Step(job.name, f"{outcome} ({seconds:.0f} s)")
    if job.report.exists():
        suite = next(ElementTree.parse(job.report).iter("testsuite"))  # noqa: S314 - pytest wrote it
        step.details = report_lines(suite)
    if job.tells_last_line:
        step.details += printed.splitlines()[-1:]
    step.details += job.remarks
    return step


def report_lines(suite: ElementTree.Element) -> list[str]:
    """How many tests there were, which were skipped and why, and what they say of themselves."""
    counts = ", ".join(
        f"{suite.get(name)} {name}" for name in ("tests", "failures", "errors", "skipped")
    )
    skipped = [
        f"skipped: {case.get('classname')}.{case.get('name')}: {skip.get('message')}"
        for case in suite.iter("testcase")
        for skip in case.iter("skipped")
    ]
    told = [
        f"{p.get('name')}: {p.get('value')}"
        for p in suite.iter("property")
        if not p.get("name", "").startswith(NOT_TOLD)
    ]
    return [counts, *skipped, *told]


def audit() -> Step:
    """Ask PyPI for known vulnerabilities in what requirements.txt installs today."""
    command = [str(PYTHON), "-m", "pip_audit", "--requirement", "requirements.txt"]
    command += ["--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return audited(done.stdout, done.stderr)


def audited(report: str, errors: str) -> Step:
    """What pip-audit said; without an answer from the service it is not run, and says why."""
    try:
        packages = json.loads(report)["dependencies"]
    except ValueError:
        reason = errors.strip().splitlines()[-1:]
        is_network = re.search("ConnectionError|ProxyError|Timeout|Failed to upgrade `pip`", errors)
        return Step("pip-audit", "not run" if is_network else "FAILED", reason)
    found = [
        f"{package['name']} {package['version']}: {weakness['id']}"
        for package in packages
        for weakness in package.get("vulns", ())
    ]
    unknown = [package for package in packages if "skip_reason" in package]
    if found:
        return Step("pip-audit", "FAILED (known vulnerabilities)", found)
    if len(unknown) == len(packages):
        return Step("pip-audit", "not run", [package["skip_reason"] for package in unknown[:1]])
    names = ", ".join(package["name"] for package in unknown)
    known = len(packages) - len(unknown)
    return Step("pip-audit", f"ok ({known} packages)", [f"not known: {names}"] if names else [])


def summarise(steps: list[Step], seconds: float) -> int:
    """Print a line for each step, and return the exit status of the whole."""
    say("\n== Summary")
    for step in steps:
        say(f"{step.name:14} {step.outcome}")
        for detail in step.details:
            say(f"{'':14} {detail}")
    failed = [step.name for step in steps if step.failed]
    left_out = [step.name for step in steps if step.outcome.startswith("not run")]
    passed = f"All passed, but not run: {', '.join(left_out)}" if left_out else "All passed"
    say(f"\n{'FAILED: ' + ', '.join(failed) if failed else passed}, in {seconds:.0f} s")
    return 1 if failed else 0
