"""What every developer's command needs first: `.venv`, ComfyUI, the tiny checkpoints. Standard library only."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from . import comfyui_source

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
CACHE = ROOT / ".dev"
COMFYUI_CACHE = CACHE / "comfyui"
STAGE = CACHE / "stage" / "models"
GPU_FOLDER = CACHE / "gpu"
"""What `bench gpu --pack` makes."""
BOUNDS = CACHE / "bounds"
ENDS = ("lowest", "newest")
"""Both ends of what requirements.txt allows; each is installed into a folder of its own."""
REQUIREMENTS = (
    "requirements.txt",
    "devtools/requirements.txt",
    "devtools/requirements-peers.txt",
)


class SetupError(Exception):
    """The machine lacks something; the text is for the person in front of it."""


def say(text: str) -> None:
    """Write a line at once, also into a pipe."""
    print(text, flush=True)


def provide(version: str | None = None, *, tiny_t5: bool = False) -> Path:
    """Return a folder with one of the tested ComfyUI versions, by default the newest."""
    try:
        return comfyui_source.provide(
            version or comfyui_source.NEWEST, COMFYUI_CACHE, tiny_t5=tiny_t5, python=str(PYTHON)
        )
    except comfyui_source.ComfyUISourceError as error:
        raise SetupError(str(error)) from error


def set_up() -> None:
    """Make `.venv`, or complete it; quick when nothing changed since the last time."""
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
    """Make the virtual environment, unless a whole one is there."""
    if (VENV / "pyvenv.cfg").exists() and runs(PYTHON, "-c", "import pip"):
        return
    import venv  # not at the top: a Python without it still tells what it lacks

    say(f"Making {VENV} with Python {sys.version_info.major}.{sys.version_info.minor} ...")
    try:
        venv.create(VENV, clear=True, with_pip=True)
    except subprocess.CalledProcessError as error:
        raise SetupError(
            "Python could not make a virtual environment. On Debian and Ubuntu, install the "
            "package python3-venv first."
        ) from error


def runs(*command: object) -> bool:
    """Whether a command can be started and succeeds."""
    try:
        return (
            subprocess.run([*map(str, command)], capture_output=True, check=False).returncode == 0
        )
    except OSError:
        return False


def digest(files: list[Path]) -> str:
    """Name the content of files."""
    content = b"\0".join(path.read_bytes() for path in files)
    return hashlib.sha256(content).hexdigest()


def pip(*arguments: str) -> None:
    """Install into the virtual environment."""
    command = [str(PYTHON), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    # The peers lack dependencies on purpose; what is never imported need not be compiled.
    command += ["--no-warn-conflicts", "--no-compile"]
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
    # The stage stamps itself with its own source; asking it costs seconds of importing torch.
    stamp = STAGE / "tiny-stage-whole"
    if stamp.exists() and stamp.read_text() == digest([ROOT / "devtools" / "tiny_stage.py"]):
        return
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
