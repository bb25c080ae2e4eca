"""That the lowest or newest packages of requirements.txt are imported, and not the venv's own.

Run by `python dev.py test` in front of the tests that use them; REQUIRED_PACKAGES names the folder
they were installed into, whose name says which end it is.
"""

import importlib
import os
import re
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ["REQUIRED_PACKAGES"])
REQUIREMENTS = (ROOT / "requirements.txt").read_text(encoding="utf-8").split()
MODULES = {
    "filelock": "filelock",
    "insightface": "insightface",
    "opencv-python": "cv2",
    "timm": "timm",
}


@pytest.mark.filterwarnings("ignore")  # of the packages' own imports
@pytest.mark.parametrize("requirement", REQUIREMENTS)
def test_this_end_is_imported(requirement: str):
    """From its folder, in the version that its metadata say; the lowest is the bound itself."""
    name, lowest, limit = re.fullmatch(r"([\w-]+)>=([\d.]+),<(\d+)", requirement).groups()
    module = importlib.import_module(MODULES[name])
    assert Path(module.__file__).is_relative_to(FOLDER)
    version = metadata.version(name)
    assert version.startswith(module.__version__)
    if FOLDER.name == "lowest":
        assert version == lowest
    else:
        assert FOLDER.name == "newest"
        assert int(version.split(".")[0]) < int(limit)
