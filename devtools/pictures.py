"""Pictures of real graphs. Each knows the source it was taken of, so that none grows stale unnoticed."""

import hashlib
import io
import json
import os
import re
from pathlib import Path

from PIL import Image
from pulid_pack.devtools.comfyui import inputs_of
from pulid_pack.devtools.portrait_workflow import REMOTE_PATH

ROOT = Path(__file__).resolve().parent.parent
FOLDER = "docs/pictures"
OF_WORKFLOWS = {
    "portrait-remote.jpg": REMOTE_PATH,
}
"""Pictures of whole graphs, and the workflow that each shows after its run."""
ADVICE = "run `python dev.py pictures`"
WANTED = os.environ.get("PICTURES") == "1"
"""Whether the browser tests take all pictures anew, as `dev.py pictures` asks."""


def named_in_readme() -> set[str]:
    """The pictures that the README shows, by path below the repository."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return set(re.findall(rf"\(({FOLDER}/[\w-]+\.jpg)\)", readme))


def digest(source: bytes) -> str:
    """What a picture remembers of its source."""
    return hashlib.sha256(source).hexdigest()[:16]


def save(shot: bytes | Image.Image, path: Path, source: bytes, longest_side: int) -> None:
    """Write a screenshot or drawing as a small JPEG, with the digest of its source as comment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = shot if isinstance(shot, Image.Image) else Image.open(io.BytesIO(shot))
    picture.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS)
    picture.convert("RGB").save(path, quality=85, optimize=True, comment=digest(source))


def is_fresh(path: Path, source: bytes) -> bool:
    """Whether a picture is there and was taken of this source."""
    if not path.is_file():
        return False
    with Image.open(path) as picture:
        return picture.info.get("comment", b"").decode() == digest(source)


def looks(info: dict) -> bytes:
    """What a picture shows of a node: its name, inputs, defaults and outputs; not the user's files."""
    shown = [(name, spec[1].get("default")) for name, spec in inputs_of(info).items()]
    return json.dumps([info["display_name"], shown, info["output_name"]]).encode()
