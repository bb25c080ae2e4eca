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
