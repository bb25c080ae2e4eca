"""Run the tests that need no torch under the oldest and the newest supported Python that the machine has.

python devtools/other_pythons.py FOLDER [pytest's arguments]

Each gets an environment of its own in the folder. The last line names the versions.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = ("3.10", "3.11", "3.12", "3.13")
REQUIREMENTS = ROOT / "devtools" / "requirements-remote.txt"
TOOLS = ("hypothesis>=6.100,<7", "pytest>=8.3,<10", "pytest-timeout>=2.3,<3")
TESTS = ("tests/remote",)


def found() -> dict[str, str]:
    """The interpreters on the PATH or in pyenv's folder that really start, by version."""
    versions = {}
    for version in VERSIONS:
        names = [shutil.which(f"python{version}")]
        names += map(str, sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python")))
        for name in filter(None, names):
            asked = [name, "-c", "import sys; print('%d.%d.%d' % sys.version_info[:3])"]
            answer = subprocess.run(asked, capture_output=True, text=True)
            if answer.returncode == 0 and answer.stdout.startswith(f"{version}."):
                versions[answer.stdout.strip()] = name
                break
    return versions


def environment(folder: Path, version: str, interpreter: str) -> Path:
    """A virtual environment with what these tests need."""
    home = folder / version
    python = home / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    stamp, wanted = home / "stamp", "\n".join([REQUIREMENTS.read_text(), *TOOLS])
    if not stamp.is_file() or stamp.read_text() != wanted:
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([interpreter, "-m", "venv", str(home)], check=True)
        command = [str(python), "-m", "pip", "install", "-q", "-r", str(REQUIREMENTS), *TOOLS]
        subprocess.run(command, check=True)
        stamp.write_text(wanted)
    return python


def main() -> int:
    folder, arguments = Path(sys.argv[1]), sys.argv[2:]
    outcomes = {}
    interpreters = found()
    for version in dict.fromkeys([*list(interpreters)[:1], *list(interpreters)[-1:]]):
        python = environment(folder, version, interpreters[version])
        command = [str(python), "-m", "pytest", *TESTS, "-c", "tests/pytest.ini"]
        command += ["--confcutdir", "tests/remote", "-m", "not slow", *arguments]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        counts = re.findall(r"\d+ (?:passed|failed|errors?|skipped)", ended.stdout[-400:])
        outcomes[version] = ", ".join(counts) or "nothing ran"
        if ended.returncode and not (ended.returncode == 5 and arguments):  # 5: none selected
            sys.stdout.write(ended.stdout[-4000:] + ended.stderr[-1000:])
            outcomes[version] += " FAILED"
    line = "; ".join(f"{version}: {counts}" for version, counts in outcomes.items())
    sys.stdout.write(f"Without torch: {line or 'no Python was found'}\n")
    return int(not outcomes or "FAILED" in line)


if __name__ == "__main__":
    sys.exit(main())
