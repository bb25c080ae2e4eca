"""One SQLite file that can be trusted, or an error that says why not.

Beside it lies a small file, the witness: it names the database and counts its submissions. A
database that is missing, emptied, or older than its witness has lost payments, and is not used.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import sqlite3
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..whole_file import write_whole
from .errors import JournalError

_PATIENCE_S = 10  # for another process that is writing
_UNUSABLE = (sqlite3.Error, ValueError, TypeError, OverflowError, RecursionError)
"""What a file that no version wrote leads to."""
_HEX = re.compile(r"[0-9a-f]{16,32}")
"""A name or a salt, as they are drawn."""


class Database:
    """The file, for all threads: one connection that writes, one that reads meanwhile.

    Args:
        schema: Statements that create what is missing.
        columns: Per table, what later versions added to it.
    """

    def __init__(self, path: Path, schema: str, columns: Mapping[str, Sequence[str]]):
        self._path = path
        self._witness = path.with_suffix(".witness")
        self._guard, self._reading = threading.RLock(), threading.RLock()
        if not path.exists() and self._witness.exists():
            raise self.distrusted("is gone")
        try:
            self._writer = self._open()
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from None
        except OSError as error:
            raise _unwritable(path, error.strerror or str(error)) from None
        weakref.finalize(self, self._writer.close)
        try:
            self._prepare(schema, columns)
            self._reader = _connect(path)
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from None
        weakref.finalize(self, self._reader.close)
        self._check_witness()

    def _open(self) -> sqlite3.Connection:
        """The file, made for its owner only."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        with contextlib.ExitStack() as on_failure:
            writer = _connect(self._path)
            on_failure.callback(writer.close)
            (verdict,) = writer.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError("malformed")
            on_failure.pop_all()
        return writer

    def _prepare(self, schema: str, columns: Mapping[str, Sequence[str]]) -> None:
        self._writer.execute("PRAGMA journal_mode=WAL")
        self._writer.execute("PRAGMA synchronous=FULL")
        with self.change() as writer:
            tables = "SELECT COUNT(*) FROM sqlite_master WHERE name IN ('jobs', 'predictions')"
            (known,) = writer.execute(tables).fetchone()
            if known < 2 and self._witness.exists():
                raise self.distrusted("was emptied")
            for statement in filter(str.strip, schema.split(";")):
                writer.execute(statement)
            for table, added in columns.items():
                present = {row[1] for row in writer.execute(f"PRAGMA table_info({table})")}
                for column in added:
                    if column.split()[0] not in present:
                        writer.execute(f"ALTER TABLE {table} ADD COLUMN {column}")

    def _check_witness(self) -> None:
        """Compare with what is remembered outside the database.

        Raises:
            JournalError: It is not the database that was written last.
        """
        known, _, counted = self._read_witness().partition(" ")
        with self.change() as writer:
            facts = dict(writer.execute("SELECT name, value FROM facts"))
            if "name" not in facts:  # new, or of a version without a witness
                if self._witness.exists():
                    raise self.distrusted("was emptied")
                facts["name"] = secrets.token_hex(8)
                writer.execute("INSERT INTO facts VALUES ('name', ?, 0)", (facts["name"],))
                if writer.execute("SELECT 1 FROM jobs LIMIT 1").fetchone() is None:
                    facts.setdefault("salt", secrets.token_hex(16))
                    salt = (facts["salt"],)
                    writer.execute("INSERT OR IGNORE INTO facts VALUES ('salt', ?, 0)", salt)
        for drawn in ("salt", "name"):
            if not _HEX.fullmatch(str(facts.get(drawn))):
                raise self.distrusted(f"has lost its {drawn}")
        self._name, count = facts["name"], _count(facts.get("count", 0))
        if known and (known != self._name or not 0 <= _count(counted) <= count):
            raise self.distrusted("is another one, or an older copy")
        self.testify(count)

    def _read_witness(self) -> str:
        try:
            return self._witness.read_text("ascii").strip()
        except FileNotFoundError:
            return ""
        except (OSError, ValueError):
            return "unreadable"

    def testify(self, count: int) -> None:
        """Remember outside the database that it knows so many submissions.

        Raises:
            JournalError: That cannot be written.
        """
        text = f"{self._name} {count}\n"
        try:
            write_whole(self._witness, text.encode("ascii"), overwrite=True, mode=0o600)
        except OSError as error:
            raise _unwritable(self._path, error.strerror or str(error)) from None

    def close(self) -> None:
        """Close the file; nothing can be read or written any more."""
        with self._guard, self._reading:
            self._reader.close()
            self._writer.close()

    @staticmethod
    def delete(path: Path) -> None:
        """Delete a closed database, its witness last, and what was set aside."""
        for old in (*path.parent.glob(f"{path.name}*"), path.with_suffix(".witness")):
            old.unlink(missing_ok=True)

    @contextlib.contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """One change, on disk when the with statement ends.

        Raises:
            JournalError: It could not be written; nothing of it was.
        """
        failure = None
        with self._guard:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                yield self._writer
                self._writer.execute("COMMIT")
            except _UNUSABLE as error:
                failure = str(error)
            finally:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
        if failure:
            raise _unwritable(self._path, failure)

    @contextlib.contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Read what is on disk; waits for nobody's writing.

        Raises:
            JournalError: It cannot be read, or holds what no version wrote.
        """
        failure = None
        with self._reading:
            try:
                yield self._reader
            except _UNUSABLE as error:
                failure = str(error)
        if failure:
            raise JournalError(
                f"The WaveSpeed record {self._path} cannot be read: {failure}. Nothing was ordered. "
                f"{self._way_out()}"
            )

    def read_back(self, query: str, values: tuple[str, ...]) -> object:
        """The first column of a row as whoever opens the file now would find it.

        Raises:
            JournalError: There is no such file or row any more.
        """
        try:
            uri = f"{self._path.resolve().as_uri()}?mode=rw"
            with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=_PATIENCE_S)) as anew:
                found = anew.execute(query, values).fetchone()
        except sqlite3.Error as error:
            raise _unwritable(self._path, f"{error}, when read back") from None
        return found[0] if found else None

    def _damaged(self, error: sqlite3.Error) -> JournalError:
        """Set a damaged file aside, and say so; a file that is only busy stays."""
        if isinstance(error, sqlite3.OperationalError):
            return _unwritable(self._path, str(error))
        with contextlib.suppress(AttributeError):
            self._writer.close()
        aside = self._path.with_name(f"{self._path.name}.damaged-{secrets.token_hex(3)}")
        try:
            self._path.rename(aside)
            self._witness.touch(0o600)  # so that the next start does not take it for the first
        except OSError:
            return self.distrusted("is damaged")
        return self.distrusted(f"was damaged, and is now {aside.name}")

    def distrusted(self, what: str) -> JournalError:
        """The error for a record that has lost payments, with the way to a new one."""
        return JournalError(
            f"The WaveSpeed record {self._path} {what}, so what was paid is not known. Nothing was "
            f"ordered. {self._way_out()}"
        )

    def _way_out(self) -> str:
        return (
            "Put back a whole copy; or collect what wavespeed.ai/predictions lists by its ids, then "
            f"delete {self._path.name} and {self._witness.name} to begin a new record."
        )


def _count(text: object) -> int:
    """A count as it was written; -1 for what nobody wrote."""
    return int(str(text)) if re.fullmatch(r"[0-9]{1,18}", str(text)) else -1


def _connect(path: Path) -> sqlite3.Connection:
    """A connection for all threads, whose changes survive the loss of power."""
    return sqlite3.connect(path, timeout=_PATIENCE_S, isolation_level=None, check_same_thread=False)


def _unwritable(path: Path, cause: str) -> JournalError:
    return JournalError(
        f"The WaveSpeed record {path} cannot be written: {cause}. Nothing is ordered without it. Make "
        "room there, or allow writing; then run again."
    )
