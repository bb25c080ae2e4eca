"""Delivered files on this machine: seven days, 500 MB, the least recently used go first."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..whole_file import write_whole
from .clock import Clock
from .journal import KEPT_S

LOGGER = logging.getLogger(__name__)

CAPACITY_BYTES = 500_000_000


class ResultStore:
    """Files named by prediction id and position, in one folder."""

    def __init__(self, folder: Path, clock: Clock | None = None, capacity: int = CAPACITY_BYTES):
        self.folder = folder
        self._clock = clock or Clock()
        self._capacity = capacity

    def save(self, prediction_id: str, files: Sequence[bytes], facts: dict[str, Any]) -> bool:
        """Keep the files of a prediction and its facts; False when the disk does not take them."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for index, data in enumerate(files):
                self._write(self._path(prediction_id, index), data)
            # Written last: where it is, the others are.
            self._write(self._path(prediction_id, "json"), json.dumps(facts).encode())
            self._prune(keep=prediction_id)
        except OSError as error:
            LOGGER.warning("A WaveSpeed result cannot be kept on disk: %s", error.strerror)
            return False
        return True

    def load(self, prediction_id: str) -> tuple[list[bytes], dict[str, Any]]:
        """The files of a prediction in order, and its facts; empty when they are not kept."""
        facts_path = self._path(prediction_id, "json")
        try:
            if self._age_s(facts_path) > KEPT_S:
                return [], {}
            facts = json.loads(facts_path.read_bytes())
            paths = [self._path(prediction_id, index) for index in range(len(facts["outputs"]))]
            files = [path.read_bytes() for path in paths]
            for path in (facts_path, *paths):
                os.utime(path, (self._clock.wall(), path.stat().st_mtime))
        except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
            return [], {}
        return files, facts

    def clear(self) -> int:
        """Delete every kept file; returns how many there were."""
        paths = list(self.folder.iterdir()) if self.folder.is_dir() else []
        for path in paths:
            path.unlink(missing_ok=True)
        return len(paths)

    def _path(self, prediction_id: str, part: int | str) -> Path:
        return self.folder / f"{prediction_id}.{part}"

    def _age_s(self, path: Path) -> float:
        return self._clock.wall() - path.stat().st_mtime

    def _write(self, path: Path, data: bytes) -> None:
        write_whole(path, data, overwrite=True, mode=0o600)
        now = self._clock.wall()
        os.utime(path, (now, now))

    def _prune(self, keep: str) -> None:
        """Drop what is too old, then the least recently used beyond the capacity."""
        left = self._capacity
        # Another process may prune at the same time: a file that is gone is what was wanted.
        with contextlib.suppress(FileNotFoundError):
            for path in sorted(self.folder.iterdir(), key=lambda path: -path.stat().st_atime):
                left -= path.stat().st_size
                if path.stem != keep and (left < 0 or self._age_s(path) > KEPT_S):
                    path.unlink()
