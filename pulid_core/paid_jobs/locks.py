"""Locks between threads and between processes that a killed process cannot leave behind."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from .clock import SLICE_S, Cancelled, Clock
from .errors import JournalError


class Locks:
    """Locks for all threads and processes that use one folder."""

    def __init__(self, folder: Path):
        self._folder = folder

    def prove(self) -> None:
        """Try out whether a lock keeps anybody out here; on some network drives it does not.

        Raises:
            JournalError: It cannot be taken, or is given twice.
        """
        path = self._folder / f"proof-{os.getpid()}-{secrets.token_hex(4)}.lock"
        first, second = _lock(path), _lock(path)
        try:
            if not _is_taken(first) or _is_taken(second):
                raise _no_locks(path, "a lock there keeps nobody out")
        finally:
            with contextlib.suppress(OSError):
                second.release()
                first.release()
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def hold(self, name: str, clock: Clock, cancelled: Cancelled) -> Iterator[None]:
        """Hold one of 4096 locks, chosen by the hash of the name; wait for it.

        Two names on one lock only wait for each other; no thread ever holds two of one kind, the
        part of the name before the colon.

        Raises:
            RemoteCancelled: `cancelled` said so while waiting.
            JournalError: The lock file cannot be opened or locked.
        """
        slot = hashlib.sha256(name.encode()).hexdigest()[:3]
        lock = _lock(self._folder / f"{name.split(':')[0]}-{slot}.lock")
        while not _is_taken(lock):
            clock.wait(SLICE_S, cancelled)
        try:
            yield
        finally:
            lock.release()


def _lock(path: Path) -> FileLock:
    return FileLock(path, mode=0o600)


def _is_taken(lock: FileLock) -> bool:
    """Try a lock once.

    Raises:
        JournalError: The file system does not lock.
    """
    try:
        Path(lock.lock_file).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        return False
    except (OSError, NotImplementedError) as error:
        raise _no_locks(Path(lock.lock_file), str(error)) from None
    return True


def _no_locks(path: Path, cause: str) -> JournalError:
    return JournalError(
        f"The WaveSpeed record needs locks in {path.parent}, but {cause}. Nothing was ordered. Keep "
        "that folder on a local disk that may be written."
    )
