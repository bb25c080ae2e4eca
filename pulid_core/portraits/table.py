"""The table of people, prompts and seeds, and the portraits that it asks for."""

from __future__ import annotations

import csv
import hashlib
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ..errors import quoted
from ..file_hash import sha256_of
from .errors import PortraitsError

COLUMNS = ("person", "prompt", "seed")
MAX_ROWS = 2**16
SEED_DIGITS = 15
"""Seeds stay exact in the JSON of every program."""


class Portrait(NamedTuple):
    """One picture to paint."""

    photo: Path
    prompt: str
    seed: int
    digest: str
    """Of all that decides how it looks."""

    @property
    def file_name(self) -> str:
        """Its name in the output folder; that it lies there says that it is painted."""
        return f"{self.photo.stem}-{self.seed}-{self.digest[:12]}.png"

    def __str__(self) -> str:
        return f"{self.photo.stem}, seed {self.seed}, {quoted(self.prompt)}"


def portraits_of(
    people: Iterable[Path], prompts: Iterable[str], seeds: Iterable[int], settings: str
) -> list[Portrait]:
    """Every person with every prompt and every seed, once; a person's stay together, which caches like.

    Args:
        people: Files of photos.
        settings: What else decides how a picture looks, such as the graph.
    """
    photos = {photo: f"{photo.name} {sha256_of(photo)}" for photo in people}
    portraits = {}
    for photo, prompt, seed in itertools.product(photos, prompts, seeds):
        parts = "\0".join((settings, photos[photo], prompt, str(seed)))
        digest = hashlib.sha256(parts.encode()).hexdigest()
        portraits[digest] = Portrait(photo, prompt, seed, digest)
    return list(portraits.values())


def read_table(path: Path) -> tuple[list[Path], list[str], list[int]]:
    """Read a CSV file with the columns person, prompt and seed; each is a list of its own.

    Args:
        path: UTF-8; photos are named from its folder. Empty cells are passed over.

    Returns:
        The photos, the prompts and the seeds, each once.

    Raises:
        PortraitsError: A column or a photo is not there, or a seed is no number.
    """
    people, prompts, seeds = _columns(path)
    photos = [path.parent / name for name in people]
    missing = [str(photo) for photo in photos if not photo.is_file()]
    odd = [seed for seed in seeds if not (seed.isdecimal() and len(seed) <= SEED_DIGITS)]
    if missing or odd:
        raise PortraitsError(
            "Photos beside the table and whole numbers as seeds were wanted, but the table names "
            f"{quoted(', '.join(missing + odd))}. Correct these cells."
        )
    return photos, prompts, list(map(int, seeds))


def _columns(path: Path) -> list[list[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(itertools.islice(csv.DictReader(file), MAX_ROWS))
    except (OSError, ValueError, csv.Error) as error:
        told = f"A table in CSV and UTF-8 was expected, but {path} cannot be read: {error}."
        raise PortraitsError(told) from error
    cells = [[(row.get(name) or "").strip() for row in rows] for name in COLUMNS]
    columns = [list(dict.fromkeys(filter(None, column))) for column in cells]
    if not all(columns):
        raise PortraitsError(
            f"The table should have the columns {', '.join(COLUMNS)}, each with a cell filled in, but "
            f"{path} has not. Write these names into its first line."
        )
    return columns
