"""Whose likeness is judged: photos in folders, or addresses of photos in a list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import requests
from urllib3.exceptions import HTTPError

from ..errors import PulidError, quoted
from ..whole_file import write_whole

ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
MAX_PHOTO_BYTES = 2**26
MAX_LIST_BYTES = 2**20
TIMEOUT_S = 30


@dataclass(frozen=True)
class Person:
    """One person's photos."""

    name: str
    reference: Path
    """What the pictures are painted from."""
    held_out: tuple[Path, ...] = ()
    """Others of the same person, which no painter sees."""


def read_people(folder: Path) -> list[Person]:
    """Read a folder: a photo is a person, and so is a folder of photos, whose first is the reference.

    Raises:
        PulidError: There is no photo.
    """
    people = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        photos = sorted(path.iterdir()) if path.is_dir() else [path]
        photos = [photo for photo in photos if photo.suffix.lower() in ENDINGS]
        if photos:
            people.append(Person(path.stem, photos[0], tuple(photos[1:])))
    if not people:
        raise PulidError(
            f"Photos of people were wanted, but {folder} holds none. Put one photo, or a folder of "
            "photos, of each person there."
        )
    return people


def fetch_list(path: Path, folder: Path, say: Callable[[str], object]) -> Path:
    """Download the photos of a list, one https address a line, as far as they are not there.

    Returns:
        The folder with the photos.

    Raises:
        PulidError: A line is no https address, or a photo cannot be had.
    """
    with path.open("rb") as file:
        lines = file.read(MAX_LIST_BYTES).decode("utf-8", "replace").split()
    if odd := [line for line in lines if not line.startswith("https://")]:
        raise PulidError(
            f"An https address in each line was wanted, but {path} has {quoted(odd[0])}."
        )
    folder.mkdir(parents=True, exist_ok=True)
    for number, address in enumerate(lines, start=1):
        photo = folder / f"{number:03}.jpg"
        if not photo.exists():
            say(f"Photo {number} of {len(lines)}: {address}")
            write_whole(photo, _download(address))
    return folder


def _download(address: str) -> bytes:
    try:
        with requests.Session().get(address, stream=True, timeout=TIMEOUT_S) as answer:
            answer.raise_for_status()
            data = answer.raw.read(MAX_PHOTO_BYTES + 1, decode_content=True)
    except (OSError, HTTPError) as error:  # the former are requests', the latter of a body
        raise PulidError(
            f"A photo was wanted from {quoted(address)}, but it cannot be had: "
            f"{type(error).__name__}. Run the same command again, or take the line out."
        ) from error
    if len(data) > MAX_PHOTO_BYTES:
        raise PulidError(f"A photo of at most 64 MB was wanted, but {quoted(address)} is larger.")
    return data
