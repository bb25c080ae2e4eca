"""Locks between threads and between processes that a killed process cannot leave behind.

Each lock is an SQLite database that stays empty: an exclusive transaction is a file lock that
every operating system releases with the process, and that also holds between threads.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Protocol

from .clock import SLICE_S, Cancelled, Clock
from .errors import JournalError


class Locks(Protocol):
    """Named locks."""

    def hold(
        self, name: str, clock: Clock, cancelled: Cancelled
    ) -> contextlib.AbstractContextManager[None]:
        """Hold a lock for the length of a with statement; wait for it in a cancellable way."""
        ...


class FileLocks:
    """Locks for all processes that use one folder."""

    def __init__(self, folder: Path):
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextlib.contextmanager
    def hold(self, name: str, clock: Clock, cancelled: Cancelled) -> Iterator[None]:
        """Hold one of 4096 locks, chosen by the hash of the name.

        Two names on one lock only wait for each other; no thread ever holds two job locks.

        Raises:
            RemoteCancelled: `cancelled` said so while waiting.
            JournalError: The lock file cannot be opened.
        """
        slot = hashlib.sha256(name.encode()).hexdigest()[:3]
        with closing(_open(self._folder / f"{name.split(':')[0]}-{slot}.lock")) as database:
            while not _locked(database):
                clock.wait(SLICE_S, cancelled)
            yield


class ThreadLocks:
    """Locks for the threads of this process, where no folder can be written."""

    def __init__(self) -> None:
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._guard = threading.Lock()

    @contextlib.contextmanager
    def hold(self, name: str, clock: Clock, cancelled: Cancelled) -> Iterator[None]:
        """Hold the lock of that name.

        Raises:
            RemoteCancelled: `cancelled` said so while waiting.
        """
        with self._guard:
            lock = self._locks[name]
        while not lock.acquire(blocking=False):
            clock.wait(SLICE_S, cancelled)
        try:
            yield
        finally:
            lock.release()


def _open(path: Path) -> sqlite3.Connection:
    try:
        return sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise JournalError(f"The lock {path.name} cannot be opened: {error}.") from None


def _locked(database: sqlite3.Connection) -> bool:
    try:
        database.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            return False
        raise JournalError(f"A lock cannot be taken: {error}.") from None
    return True
