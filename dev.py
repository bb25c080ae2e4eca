"""Set up this repository and run it: `python dev.py demo`, `test` or `bench`; `models` and `convert`
work in every installed pack.

Needs Python 3.10 or newer. The first three need git's clone of this repository, and the network on
the first run; all they make lies in `.venv` and `.dev`, and `demo-pictures` for the demo's pictures;
delete them to start anew.
"""

import sys

if sys.version_info < (3, 10):  # noqa: UP036 - whoever reads the sentence runs an older one
    sys.exit("dev.py needs Python 3.10 or newer, but this is %d.%d." % sys.version_info[:2])  # noqa: UP031

import argparse
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
CACHE = ROOT / ".dev"
COMFYUI_CACHE = CACHE / "comfyui"
STAGE = CACHE / "stage" / "models"
DEVTOOLS = ROOT / "devtools"
INSIDE = "tests/inside_comfyui"
"""Tests that run inside one ComfyUI, named by COMFYUI_UNDER_TEST."""
BROWSER = "tests/browser"
"""Tests that drive the browser named by CHROMIUM."""
JUNIT = CACHE / "pytest.xml"
BOUNDS = CACHE / "bounds"
ENDS = ("lowest", "newest")
"""Both ends of what requirements.txt allows; each is installed into a folder of its own."""
USING_THE_REQUIRED = (
    *(
        "devtools/dependency_bounds.py",
        "tests/encoder/test_parity.py",
        "tests/tools/test_tiny_stage.py",
    ),
    *("tests/face/test_faces.py", "tests/face/test_similarity.py"),
)
REQUIREMENTS = ("requirements.txt", "devtools/requirements.txt", "devtools/requirements-peers.txt")


class SetupError(Exception):
    """The machine lacks something; the text is for the person in front of it."""


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


# Setting up


def comfyui_source() -> ModuleType:
    """The tests' module that gets ComfyUI; what the registry installs has no tests."""
    if not DEVTOOLS.is_dir():
        raise SetupError(
            "demo, test and bench need the repository itself: "
            "git clone https://github.com/pulid-for-flux/pulid-for-flux"
        )
    sys.path.append(str(DEVTOOLS))
    import comfyui_source as source

    return source


def provide(version: str | None = None, *, tiny_t5: bool = False) -> Path:
    """Return a folder with one of the tested ComfyUI versions, by default the newest."""
    source = comfyui_source()
    try:
        return source.provide(
            version or source.NEWEST, COMFYUI_CACHE, tiny_t5=tiny_t5, python=str(PYTHON)
        )
    except source.ComfyUISourceError as error:
        raise SetupError(str(error)) from error


def set_up() -> None:
    """Make `.venv`, or complete it; quick when nothing changed since the last time."""
    comfyui_source()
    make_venv()
    comfyui = provide()
    comfyui_requirements = comfyui / "requirements.txt"
    stamp = VENV / "dev-stamp"
    wanted = digest([comfyui_requirements, *(ROOT / name for name in REQUIREMENTS)])
    if stamp.exists() and stamp.read_text() == wanted:
        return
    stamp.unlink(missing_ok=True)
    runtime, tools, peers = (str(ROOT / name) for name in REQUIREMENTS)
    say("Installing PyTorch, ComfyUI's requirements and the test tools (several GB, minutes) ...")
    # First, so that ComfyUI's bare "torchaudio" is met and does not choose another torch.
    pip("--no-deps", "-r", peers)
    pip("-r", tools, "-r", str(comfyui_requirements), "-r", runtime)
    stamp.write_text(wanted)


def make_venv() -> None:
    if runs(PYTHON, "-m", "pip", "--version"):
        return
    import venv  # not at the top: the Python of portable ComfyUI has none

    say(f"Making {VENV} with Python {sys.version_info.major}.{sys.version_info.minor} ...")
    try:
        venv.create(VENV, clear=True, with_pip=True)
    except subprocess.CalledProcessError as error:
        raise SetupError(
            "Python could not make a virtual environment. On Debian and Ubuntu, install the "
            "package python3-venv first."
        ) from error


def runs(*command: object) -> bool:
    try:
        return (
            subprocess.run([*map(str, command)], capture_output=True, check=False).returncode == 0
        )
    except OSError:
        return False


def digest(files: list[Path]) -> str:
    content = b"\0".join(path.read_bytes() for path in files)
    return hashlib.sha256(content).hexdigest()


def pip(*arguments: str) -> None:
    command = [str(PYTHON), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    command += ["--no-warn-conflicts"]  # the peers lack dependencies on purpose
    if subprocess.run([*command, *arguments], check=False).returncode:
        raise SetupError(
            "pip could not install what is needed; its own words stand above. With the network "
            "back, the same command goes on where this one stopped."
        )


def install_end(end: str) -> Path:
    """Put one end of the required packages into a folder; again when what they depend on changes.

    That is requirements.txt, the virtual environment's Python and, for the newest, the day.
    """
    folder = BOUNDS / end
    requirements = (ROOT / "requirements.txt").read_text(encoding="utf-8").split()
    if end == "lowest":
        requirements = [re.sub(">=(.+),<.+", r"==\1", line) for line in requirements]
    python = (VENV / "pyvenv.cfg").read_text(encoding="utf-8")
    day = time.strftime("%Y-%m-%d") if end == "newest" else ""
    stamp, wanted = folder / "dev-stamp", "\n".join([*requirements, python, day])
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        say(f"Installing the {end} packages that requirements.txt allows ...")
        shutil.rmtree(folder, ignore_errors=True)
        # What they need besides is in the virtual environment.
        pip("--no-deps", "--target", str(folder), *requirements)
        stamp.write_text(wanted, encoding="utf-8")
    return folder


def make_stage() -> None:
    """Write the tiny stage's checkpoints, where they are not there yet."""
    if in_venv(ROOT / "devtools" / "tiny_stage.py", STAGE):
        raise SetupError("The tiny checkpoints could not be made. Is the disk full?")


def in_venv(*arguments: object, **environment: str) -> int:
    """Run the virtual environment's Python in the repository and return the exit status."""
    command = [str(PYTHON), *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | environment) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.wait()  # it got the same Ctrl-C, and has a server to stop
            raise


# Commands


def demo(options: argparse.Namespace) -> int:
    """Run the example graph in a real ComfyUI, from photo to picture."""
    if options.live and not os.environ.get("WAVESPEED_API_KEY"):
        raise SetupError("--live needs a WaveSpeed key: set WAVESPEED_API_KEY, then run it again.")
    set_up()
    if options.remote:
        return remote_demo(options)
    if options.models is None:
        make_stage()
    comfyui = provide(tiny_t5=options.models is None)
    arguments = ["--comfyui", comfyui, "--base", CACHE / "demo", "--output", ROOT / "demo-pictures"]
    if options.models is None:
        arguments += ["--stage", STAGE]
    if options.models:
        arguments.append(f"--models={options.models.resolve()}")
    return in_venv(ROOT / "devtools" / "demo.py", *arguments, *wishes(options))


def remote_demo(options: argparse.Namespace) -> int:
    """Run the remote graph against a stand-in of WaveSpeed, or against the service itself."""
    comfyui = provide()
    # The live folder holds the record of what was paid; the other is emptied at every start.
    base = CACHE / ("demo-live" if options.live else "demo-remote")
    arguments = ["--comfyui", comfyui, "--base", base, "--output", ROOT / "demo-pictures"]
    arguments += [f"--{name}" for name in ("live", "yes") if getattr(options, name)]
    return in_venv(ROOT / "devtools" / "remote_demo.py", *arguments, *wishes(options))


def wishes(options: argparse.Namespace) -> list[str]:
    """What the user chose for either demo, as arguments."""
    chosen = [f"--photo={options.photo.resolve()}"] if options.photo else []
    return chosen + ([f"--prompt={options.prompt}"] if options.prompt else [])


def test(options: argparse.Namespace, pytest_arguments: list[str]) -> int:
    """Lint, check types, and run the tests; with `--fast`, only the quick ones."""
    begin = time.monotonic()
    set_up()
    make_stage()
    if not options.fast:
        for version in comfyui_source().VERSIONS:
            provide(version, tiny_t5=True)
        for end in ENDS:
            install_end(end)
    set_up_s = time.monotonic() - begin
    steps = [
        Step("set-up", f"ok ({set_up_s:.0f} s)"),
        check("ruff check", "-m", "ruff", "check", "."),
        check("ruff format", "-m", "ruff", "format", "--check", "."),
        check("pyright", "-m", "pyright"),
        run_pytest("pytest", ["tests"], options.fast, pytest_arguments),
    ]
    if not options.fast:
        steps += [test_inside(version, pytest_arguments) for version in comfyui_source().VERSIONS]
        steps.append(test_in_browser(pytest_arguments))
        steps += [test_end(end, pytest_arguments) for end in ENDS]
        steps.append(audit())
    return summarise(steps, time.monotonic() - begin)


def test_inside(version: str, pytest_arguments: list[str]) -> Step:
    """Run the tests that import ComfyUI; one process can import only one version."""
    comfyui = provide(version, tiny_t5=True)
    name = f"in {version}"
    return run_pytest(name, [INSIDE], False, pytest_arguments, COMFYUI_UNDER_TEST=str(comfyui))


def test_end(end: str, pytest_arguments: list[str]) -> Step:
    """Run the tests that use the required packages, with the lowest or the newest allowed."""
    folder = str(install_end(end))
    return run_pytest(
        f"with {end}", USING_THE_REQUIRED, False, pytest_arguments,
        PYTHONPATH=folder, REQUIRED_PACKAGES=folder,
    )  # fmt: skip


def audit() -> Step:
    """Ask PyPI for known vulnerabilities in what requirements.txt installs today."""
    say("\n== pip-audit")
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


def test_in_browser(pytest_arguments: list[str], **environment: str) -> Step:
    """Drive each ComfyUI's own frontend in a headless Chromium."""
    chromium = find_chromium()
    if not chromium:
        missing = "no Chromium: install it or Chrome, or set CHROMIUM to the path of one"
        return Step("browser", f"{'FAILED' if os.environ.get('CI') else 'not run'}: {missing}")
    say(f"\nThe browser tests drive {chromium}")
    return run_pytest(
        "browser", [BROWSER], False, pytest_arguments, CHROMIUM=chromium, **environment
    )


def find_chromium() -> str:
    """Find a Chromium on this machine, or try to install one; empty when there is none."""
    command = [str(PYTHON), str(DEVTOOLS / "chromium.py")]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return result.stdout.strip()


def pages(_: argparse.Namespace) -> int:
    """Rewrite the tables in the nodes' help pages and in the README from the nodes themselves."""
    set_up()
    arguments = ["--comfyui", provide(), "--base", CACHE / "pages"]
    return in_venv(ROOT / "devtools" / "pages.py", *arguments)


def pictures(_: argparse.Namespace) -> int:
    """Take the pictures of workflows and nodes anew, in the newest ComfyUI's own frontend."""
    set_up()
    make_stage()
    in_venv(DEVTOOLS / "cards.py")
    return summarise([test_in_browser(["-k", "newest and picture"], PICTURES="1")], 0)


def bench(options: argparse.Namespace) -> int:
    """Measure against the peers, side by side; prints a table and writes .dev/benchmarks.json."""
    set_up()
    make_stage()
    comfyui = provide()
    return in_venv("benchmarks", *options.names, "--comfyui", comfyui, "--models", STAGE)


def models(options: argparse.Namespace) -> int:
    """List the model files, or download those that are named; sets nothing up."""
    sys.path.append(str(ROOT))
    from pulid_core.errors import PulidError
    from pulid_core.model_files import download as model_download

    try:
        folders = model_folders(options)
        if not options.names:
            say(model_download.listing(folders))
            return 0
        targets = model_download.chosen(options.names, folders)
        if not targets:
            say("Nothing to download: the files are there.")
            return 0
        say(model_download.plan(targets))
        if not (options.yes or agreed()):
            say("Nothing was downloaded.")
            return 1
        model_download.download(targets, say)
    except PulidError as error:
        raise SetupError(str(error)) from error
    return 0


def model_folders(options: argparse.Namespace):
    """The folders that `models` searches, and where a file belongs that it fetches."""
    from pulid_core.errors import MissingDependencyError
    from pulid_core.model_files.finder import (
        EXTRA_PATHS,
        FoldersOnDisk,
        comfyui_around,
        extra_folders,
    )

    comfyui = None if options.models else options.comfyui or comfyui_around(ROOT)
    if not (comfyui or options.models):
        raise SetupError(
            f"{ROOT} does not lie in ComfyUI/custom_nodes, so name ComfyUI's folder: "
            "python dev.py models --comfyui path/to/ComfyUI"
        )
    files = [existing(comfyui) / EXTRA_PATHS] if comfyui else []
    try:
        extra = [
            e for file in files + options.extra_model_paths_config for e in extra_folders(file)
        ]
    except MissingDependencyError as error:
        say(str(error))
        extra = []
    return FoldersOnDisk(existing(options.models) if options.models else comfyui / "models", extra)


def existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise SetupError(f"{folder} should be a folder, but there is none.")
    return folder.absolute()


def agreed() -> bool:
    """Ask whether to download."""
    if not sys.stdin.isatty():
        say("No terminal to ask on: with --yes the download starts without asking.")
        return False
    try:
        return input("Download these? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        say("")
        return False


def convert(options: argparse.Namespace) -> int:
    """Put our nodes into a workflow made with an older PuLID-FLUX pack; sets nothing up."""
    # At the end: this folder's `nodes` must not stand before another module of that name.
    sys.path.append(str(ROOT))
    from pulid_core.old_workflows import OldWorkflowError
    from pulid_core.old_workflows import convert as convert_workflow

    try:
        workflow = json.loads(options.old.read_text(encoding="utf-8-sig"))
        is_same = options.new.exists() and options.new.samefile(options.old)
        conversion = convert_workflow(workflow)
        text = json.dumps(conversion.workflow, indent=2, ensure_ascii=False).encode()
    except (OSError, ValueError, OldWorkflowError) as error:
        raise SetupError(f"{options.old} cannot be converted: {error}") from error
    if is_same:
        raise SetupError("The new workflow would overwrite the old one. Choose another name.")
    try:
        options.new.write_bytes(text + b"\n")
    except OSError as error:
        raise SetupError(
            f"{options.new} cannot be written: {error}. Choose another name, in a folder that exists."
        ) from error
    if conversion.replaced:
        say(f"{options.new}: {conversion.replaced} of our nodes stand for the old ones.")
    else:
        say(f"{options.new}: the same; nothing in {options.old} could be replaced.")
    for remark in conversion.remarks:
        say(f"* {remark}")
    return 0


def check(name: str, *arguments: object, **environment: str) -> Step:
    say(f"\n== {name}")
    begin = time.monotonic()
    status = in_venv(*arguments, **environment)
    outcome = f"FAILED (exit status {status})" if status else "ok"
    return Step(name, f"{outcome} ({time.monotonic() - begin:.0f} s)")


def run_pytest(
    name: str, paths: Iterable[str], fast: bool, arguments: list[str], **environment: str
) -> Step:
    JUNIT.unlink(missing_ok=True)
    selection = ["-m", "not comfy and not slow"] if fast else []
    command = ["-m", "pytest", *paths, f"--junitxml={JUNIT}", *selection, *arguments]
    # A browser or a ComfyUI that the caller's environment names is for the steps that give them.
    step = check(name, *command, **{"CHROMIUM": "", "COMFYUI_UNDER_TEST": ""} | environment)
    if JUNIT.exists():
        suite = next(ElementTree.parse(JUNIT).iter("testsuite"))  # noqa: S314 - pytest wrote it
        numbers = [
            f"{suite.get(name)} {name}" for name in ("tests", "failures", "errors", "skipped")
        ]
        step.details.append(", ".join(numbers))
        step.details += skipped_tests(suite)
    if fast:
        step.details.append(
            "not run because of --fast: what needs ComfyUI or long (markers comfy and slow)"
        )
    if arguments:
        step.details.append(f"with pytest's own arguments: {' '.join(arguments)}")
    return step


def skipped_tests(suite: ElementTree.Element) -> list[str]:
    return [
        f"skipped: {case.get('classname')}.{case.get('name')}: {skip.get('message')}"
        for case in suite.iter("testcase")
        for skip in case.iter("skipped")
    ]


def summarise(steps: list[Step], seconds: float) -> int:
    say("\n== Summary")
    for step in steps:
        say(f"{step.name:12} {step.outcome}")
        for detail in step.details:
            say(f"{'':12} {detail}")
    failed = [step.name for step in steps if step.failed]
    left_out = [step.name for step in steps if step.outcome.startswith("not run")]
    passed = f"All passed, but not run: {', '.join(left_out)}" if left_out else "All passed"
    say(f"\n{'FAILED: ' + ', '.join(failed) if failed else passed}, in {seconds:.0f} s")
    return 1 if failed else 0


def say(text: str) -> None:
    print(text, flush=True)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    commands = argparse.ArgumentParser(description="Set up this repository and run it.")
    names = commands.add_subparsers(dest="command", required=True)
    demo_command = names.add_parser("demo", help=demo.__doc__)
    demo_command.add_argument("--photo", type=Path, help="a photo with a face; else a built-in one")
    demo_command.add_argument("--prompt", help="what to paint; else the workflow's own prompt")
    demo_command.add_argument(
        "--models", type=Path, help="a ComfyUI models folder with the real weights"
    )
    demo_command.add_argument(
        "--remote",
        action="store_true",
        help="the graph for WaveSpeed's service, against a stand-in without key, network or cost",
    )
    demo_command.add_argument(
        "--live",
        action="store_true",
        help="with --remote: the service itself, for money; the key is in WAVESPEED_API_KEY",
    )
    demo_command.add_argument("--yes", action="store_true", help="with --live: pay without asking")
    test_command = names.add_parser("test", help=test.__doc__)
    test_command.add_argument(
        "--fast", action="store_true", help="only what needs no ComfyUI and is quick"
    )
    for command in (pages, pictures):
        names.add_parser(command.__name__, help=command.__doc__)
    bench_command = names.add_parser("bench", help=bench.__doc__)
    bench_command.add_argument("names", nargs="*", help="encode, injection; else both")
    models_command = names.add_parser("models", help=models.__doc__)
    models_command.add_argument(
        "names", nargs="*", metavar="NAME", help="files to download; missing: all that PuLID lacks"
    )
    place = models_command.add_mutually_exclusive_group()
    place.add_argument(
        "--comfyui", type=Path, help="ComfyUI's folder; else the one around this pack"
    )
    place.add_argument("--models", type=Path, help="a models folder; no ComfyUI around it is read")
    models_command.add_argument(
        "--extra-model-paths-config",
        type=Path,
        action="append",
        default=[],
        help="a file like extra_model_paths.yaml, as ComfyUI was started with; more than one may be given",
    )
    models_command.add_argument("--yes", action="store_true", help="download without asking")
    convert_command = names.add_parser("convert", help=convert.__doc__)
    convert_command.add_argument("old", type=Path, help="saved, or exported for the API")
    convert_command.add_argument("new", type=Path, help="the file to write")
    return commands


def refuse_misfits(options: argparse.Namespace) -> None:
    """End with a usage error when the demo's arguments do not fit together."""
    if (options.live and not options.remote) or (options.yes and not options.live):
        parser().error("--live goes with --remote, and --yes with --live")
    if options.remote and options.models:
        parser().error("--remote needs no --models")


def main() -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a Windows code page lacks much
    options, rest = parser().parse_known_args()
    if options.command != "test" and rest:
        parser().error(f"unrecognised arguments: {' '.join(rest)}")
    if options.command == "demo":
        refuse_misfits(options)
    try:
        if options.command == "test":
            return test(options, rest)
        commands = (demo, bench, pages, pictures, models, convert)
        return {run.__name__: run for run in commands}[options.command](options)
    except SetupError as error:
        say(f"\n{error}")
        return 1
    except KeyboardInterrupt:
        say("\nStopped. The next run goes on from here.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
