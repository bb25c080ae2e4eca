"""SHA-256 of large files, computed once and remembered over restarts."""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import suppress
from pathlib import Path

from .whole_file import write_whole

BLOCK_BYTES = 2**22
MAX_MEMORY_BYTES = 2**20
"""A larger memory is no memory of ours, and begun anew."""

LOGGER = logging.getLogger(__name__)


def sha256_of(path: Path) -> str:
    """Read the whole file; takes about a second for a gigabyte, or three on older processors."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


class HashMemory:
    """Hashes by path, size and time of change, in one small JSON file.

    Args:
        place: The file; None remembers nothing.
    """

    def __init__(self, place: Path | None = None):
        self.place = place

    def sha256(self, path: Path) -> str:
        """ResultCache the hash of a file that did not change, or compute it."""
        stat = path.stat()
        mark = [stat.st_size, stat.st_mtime_ns]
        known = self._read().get(str(path.absolute()))
        if isinstance(known, list) and known[:2] == mark and len(known) == 3:
            return str(known[2])
        digest = sha256_of(path)
        self._write(self._read() | {str(path.absolute()): [*mark, digest]})
        return digest

    def _read(self) -> dict[str, object]:
        if self.place is None:
            return {}
        with suppress(OSError, ValueError, RecursionError):
            if self.place.stat().st_size <= MAX_MEMORY_BYTES:
                entries = json.loads(self.place.read_text(encoding="utf-8"))
                return entries if isinstance(entries, dict) else {}
        return {}

    def _write(self, entries: dict[str, object]) -> None:
        if self.place is None:
            return
        try:
            self.place.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.place, json.dumps(entries, indent=1).encode(), overwrite=True)
        except OSError as error:
            LOGGER.info("The hashes of model files are not kept: %s", error)
