"""The commands of `dev.py`."""

import argparse
import os
import subprocess
import time

from . import comfyui_source
from .setup import (
    CACHE,
    ENDS,
    GPU_FOLDER,
    PYTHON,
    ROOT,
    STAGE,
    SetupError,
    in_venv,
    install_end,
    make_stage,
    provide,
    say,
    set_up,
    set_up_remote,
)
from .steps import Job, Step, audit, run, run_pytest, summarise

DEVTOOLS = ROOT / "devtools"
FACES = ("tests/encoder", "tests/evaluation", "tests/face")
"""What detects faces or encodes them; a step of its own among the fast ones, for every lane to be full."""
USING_THE_REQUIRED = (
    *("tests/tools/dependency_bounds.py", "tests/encoder/test_parity.py"),
    *(
        "tests/tools/test_tiny_stage.py",
        "tests/face/test_faces.py",
        "tests/face/test_similarity.py",
        "tests/remote/test_single_flight.py",
    ),
)
"""Tests that run with the lowest and the newest required packages."""


def demo(options: argparse.Namespace) -> int:
    """Run the example graph in a real ComfyUI, from photo to picture."""
    if options.live and not os.environ.get("WAVESPEED_API_KEY"):
        raise SetupError("--live needs a WaveSpeed key: set WAVESPEED_API_KEY, then run it again.")
    if options.photo and not options.photo.is_file():
        raise SetupError(f"There is no photo at {options.photo}.")
    if options.models and not options.models.is_dir():
        raise SetupError(f"There is no models folder at {options.models}.")
    if options.remote:
        return remote_demo(options)
    set_up("demo")
    if options.models is None:
        make_stage()
    comfyui = provide(tiny_t5=options.models is None)
    arguments = ["--comfyui", comfyui, "--base", CACHE / "demo", "--output", ROOT / "demo-pictures"]
    if options.models is None:
        arguments += ["--stage", STAGE]
    if options.models:
        arguments.append(f"--models={options.models.resolve()}")
    return in_venv(DEVTOOLS / "demo.py", *arguments, *wishes(options))


def remote_demo(options: argparse.Namespace) -> int:
    """Run the remote half against a stand-in of WaveSpeed, or against the service itself."""
    set_up_remote()
    # The live folder holds the record of what was paid; the other is emptied at every start.
    base = CACHE / ("demo-live" if options.live else "demo-remote")
    arguments = ["--base", base, "--output", ROOT / "demo-pictures"]
    arguments += [f"--{name}" for name in ("live", "yes") if getattr(options, name)]
    return in_venv(DEVTOOLS / "remote_demo.py", *arguments, *wishes(options))


def wishes(options: argparse.Namespace) -> list[str]:
    """What the user chose for either demo, as arguments."""
    chosen = [f"--photo={options.photo.resolve()}"] if options.photo else []
    return chosen + ([f"--prompt={options.prompt}"] if options.prompt else [])


def test(fast: bool, extra: list[str]) -> int:
    """Lint, check types, and run the tests; with `--fast`, only the quick ones."""
    begin = time.monotonic()
    set_up()
    searched = None if fast else search_browser()
    make_stage()
    if not fast:
        for version in comfyui_source.VERSIONS:
            provide(version, tiny_t5=True)
        for end in ENDS:
            install_end(end)
    steps = [Step("set-up", f"ok ({time.monotonic() - begin:.0f} s)")]
    if searched is None:
        steps += run([*fast_jobs(extra), *lint_jobs()])
    else:
        browser = browser_job(searched, extra)
        jobs = [browser] if isinstance(browser, Job) else []
        steps += run([*jobs, *slow_jobs(extra), *lint_jobs()])
        steps += [] if jobs else [browser]
        steps.append(audit())
    return summarise(steps, time.monotonic() - begin)


def lint_jobs() -> list[Job]:
    """What reads the source alone."""
    return [
        Job("ruff check", ("-m", "ruff", "check", ".")),
        Job("ruff format", ("-m", "ruff", "format", "--check", ".")),
        Job("pyright", ("-m", "pyright")),
    ]


def fast_jobs(extra: list[str]) -> list[Job]:
    """The tests that need no ComfyUI and are quick; those of the remote half mostly wait."""
    quick = ("-m", "not comfy and not slow")
    ignored = [f"--ignore={folder}" for folder in ("tests/remote", *FACES)]
    remote = sorted((ROOT / "tests" / "remote").glob("test_*.py"))
    jobs = [
        run_pytest("core", "tests", *ignored, *quick, extra=extra),
        run_pytest("remote 1 of 2", *remote[: len(remote) // 2], *quick, extra=extra),
        run_pytest("remote 2 of 2", *remote[len(remote) // 2 :], *quick, extra=extra),
        run_pytest("faces", *FACES, *quick, extra=extra),
    ]
    left_out = "not run because of --fast: what needs ComfyUI or long (markers comfy and slow)"
    for job in jobs:
        job.remarks = [*job.remarks, left_out]
    return jobs


def slow_jobs(extra: list[str]) -> list[Job]:
    """All tests without a browser, the longest first, so that no step is alone at the end."""
    jobs = [run_pytest("servers", "tests", "--ignore=tests/remote", "-m", "comfy", extra=extra)]
    jobs.append(
        run_pytest("core", "tests", "--ignore=tests/remote", "-m", "not comfy", extra=extra)
    )
    jobs.append(run_pytest("remote", "tests/remote", extra=extra))
    other_pythons = (DEVTOOLS / "other_pythons.py", CACHE / "pythons", *extra)
    jobs.append(Job("other Pythons", other_pythons, tells_last_line=True))
    for version in comfyui_source.VERSIONS:  # one process can import only one
        comfyui = str(provide(version, tiny_t5=True))
        jobs.append(
            run_pytest(
                f"in {version}", "tests/inside_comfyui", extra=extra, COMFYUI_UNDER_TEST=comfyui
            )
        )
    for end in ENDS:
        folder = str(install_end(end))
        jobs.append(
            run_pytest(
                f"with {end}", *USING_THE_REQUIRED, extra=extra,
                PYTHONPATH=folder, REQUIRED_PACKAGES=folder,
            )
        )  # fmt: skip
    return jobs


def search_browser() -> subprocess.Popen[str]:
    """Begin to find a Chromium, or to install one, which takes as long as other set-up."""
    command = [str(PYTHON), str(DEVTOOLS / "chromium.py")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def browser_job(
    searched: subprocess.Popen[str], extra: list[str], **environment: str
) -> Job | Step:
    """Drive each ComfyUI's own frontend in the headless Chromium that was found or installed."""
    chromium = searched.communicate()[0].strip()
    if not chromium:
        missing = "no Chromium: install it or Chrome, or set CHROMIUM to the path of one"
        return Step("browser", f"{'FAILED' if os.environ.get('CI') else 'not run'}: {missing}")
    say(f"The browser tests drive {chromium}")
    return run_pytest("browser", "tests/browser", extra=extra, CHROMIUM=chromium, **environment)


def pages(_: argparse.Namespace) -> int:
    """Rewrite the tables in the nodes' help pages and in docs/models.md from what they describe."""
    set_up()
    arguments = ["--comfyui", provide(), "--base", CACHE / "pages"]
    return in_venv(DEVTOOLS / "pages.py", *arguments)


def pictures(_: argparse.Namespace) -> int:
    """Draw the templates' cards, and take the nodes' pictures in the newest ComfyUI's own frontend."""
    begin = time.monotonic()
    set_up()
    make_stage()
    in_venv(DEVTOOLS / "cards.py")
    job = browser_job(search_browser(), ["-k", "newest and picture"], PICTURES="1")
    steps = run([job]) if isinstance(job, Job) else [job]
    return summarise(steps, time.monotonic() - begin)


def bench(options: argparse.Namespace) -> int:
    """Measure against the peers, side by side; prints a table and writes .dev/benchmarks.json."""
    set_up()
    make_stage()
    arguments = [*options.names, "--comfyui", provide(), "--models", STAGE]
    arguments += ["--small"] * options.small
    if options.pack:
        arguments += ["--pack", GPU_FOLDER]
    return in_venv("benchmarks", *arguments)
