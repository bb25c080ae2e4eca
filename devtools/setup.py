"""What every developer's command needs first: `.venv`, ComfyUI, the tiny checkpoints. Standard library only."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
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
STAGE_SOURCES = ("tiny_stage.py", "tiny_shapes.py", "face_detector.py", "onnx_graph.py")
"""What a stage depends on, in the order of its own stamp."""
BOUNDS = CACHE / "bounds"
ENDS = ("lowest", "newest")
"""Both ends of what requirements.txt allows; each is installed into a folder of its own."""
RUNTIME, PEERS = "requirements.txt", "devtools/requirements-peers.txt"
DEMO, REMOTE = "devtools/requirements-demo.txt", "devtools/requirements-remote.txt"
TOOLS = "devtools/requirements.txt"
REQUIREMENTS = (RUNTIME, PEERS, DEMO, REMOTE, TOOLS)
PARTS = {"demo": (RUNTIME, DEMO), "test": (RUNTIME, DEMO, TOOLS)}
"""What is installed besides ComfyUI's requirements and the peers."""
SIZES = {"remote": "0.3 GB", "demo": "7 GB with PyTorch for CUDA", "test": "8 GB"}
"""On Linux, about; on Windows and macOS PyTorch comes without CUDA and is much smaller."""
PROBE = "packaging"
"""A small package, asked for to learn whether PyPI answers."""


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


def set_up(part: str = "test") -> None:
    """Make `.venv`, or complete it; quick when nothing changed since the last time.

    Args:
        part: Of `PARTS`; what `test` needs is enough for every other.
    """
    make_venv()
    parts = {part, "test"}
    if any(stamp_of(known).exists() for known in parts):
        comfyui = provide() / "requirements.txt"
        if any(is_whole(known, comfyui) for known in parts):
            return
    check_network()
    say("Getting ComfyUI's source ...")
    comfyui = provide() / "requirements.txt"
    stamp_of(part).unlink(missing_ok=True)
    say(f"Installing PyTorch and what ComfyUI needs into {VENV} (up to {SIZES[part]}) ...")
    # First, so that ComfyUI's bare "torchaudio" is met and does not choose another torch.
    pip("--no-deps", "-r", str(ROOT / PEERS))
    files = [str(ROOT / name) for name in PARTS[part]] + [str(comfyui)]
    pip(*(argument for file in files for argument in ("-r", file)))
    stamp_of(part).write_text(digest(parts_files(part, comfyui)))


def set_up_remote() -> None:
    """Make `.venv` fit for the remote half alone: no torch, no ComfyUI."""
    make_venv()
    wanted = ("-r", str(ROOT / REMOTE))
    quiet = ("-m", "pip", "install", "--no-index", "--disable-pip-version-check")
    if runs(PYTHON, *quiet, *wanted):
        return  # all of it is there
    check_network()
    say(f"Installing what the remote half needs into {VENV} (about {SIZES['remote']}) ...")
    pip(*wanted)


def is_whole(part: str, comfyui: Path) -> bool:
    """Whether a part was set up, from these requirements."""
    stamp = stamp_of(part)
    return stamp.exists() and stamp.read_text() == digest(parts_files(part, comfyui))


def stamp_of(part: str) -> Path:
    """Where is written down of what a part was set up."""
    return VENV / ("dev-stamp" if part == "test" else f"dev-stamp-{part}")


def parts_files(part: str, comfyui: Path) -> list[Path]:
    """The lists of packages that a part is installed from."""
    return [comfyui, *(ROOT / name for name in (PEERS, *PARTS[part]))]


def check_network() -> None:
    """Learn within seconds whether PyPI answers; pip itself would try for minutes.

    Raises:
        SetupError: It does not.
    """
    command = [str(PYTHON), "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--quiet"]
    command += ["--retries", "0", "--timeout", "8", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(
            [*command, "--dest", scratch, PROBE], capture_output=True, text=True, check=False
        )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise SetupError(
            f"Packages are missing, and PyPI cannot be reached: {reason}\n"
            "Check the network, or pip's proxy and index; then run the same command again."
        )


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
    """Install into the virtual environment; pip itself says what comes and how far it is."""
    command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check"]
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
    sources = [ROOT / "devtools" / name for name in STAGE_SOURCES]
    if stamp.exists() and stamp.read_text() == digest(sources):
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
