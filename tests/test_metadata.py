"""What is written down twice, for the registry and for pip, says the same."""

import re
from pathlib import Path

from pulid_pack.pulid_core import __version__

ROOT = Path(__file__).resolve().parents[1]


def test_version_and_requirements_agree():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{__version__}"\n' in project
    (dependencies,) = re.findall(r"^dependencies = \[(.*)\]$", project, re.MULTILINE)
    requirements = (ROOT / "requirements.txt").read_text(encoding="utf-8").split()
    assert re.findall(r'"(.*?)"', dependencies) == requirements


def test_installing_moves_no_other_packs_opencv_to_another_major_version():
    """Its builds share one folder, and pip sees no conflict between opencv-python and -contrib."""
    requirements = (ROOT / "requirements.txt").read_text(encoding="utf-8").split()
    (opencv,) = (line for line in requirements if line.startswith("opencv"))
    lowest, below = re.fullmatch(r"opencv-python>=(\d+)[\d.]*,<(\d+)", opencv).groups()
    assert int(below) == int(lowest) + 1
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for package in ("onnxruntime-gpu", '"opencv-contrib-python<5"', '"opencv-python-headless<5"'):
        command = f"pip install --force-reinstall --no-deps {package}"
        assert command in page
        assert command in readme
