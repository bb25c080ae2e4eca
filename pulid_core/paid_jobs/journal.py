"""The record of every paid job, kept so that no crash makes anybody pay twice.

    reserved -> submitting -> accepted -> completed -> downloaded -> delivered
                    |-> rejected    refused, nothing was created
                    |-> unknown     sent, and no answer said what became of it
                    `-> (accepted) -> failed

`submitting` is on disk, and was read back, before the POST leaves; the prediction id before
anything else happens after the answer. A row found in `submitting` by whoever holds the account's
lock for submissions is therefore a crash between the two, and counts as `unknown`.

Rows hold hashes, ids and dates; no key, prompt or image. The address of an uploaded photo is kept
as long as it is used again, and then its hash.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import math
import re
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any

from .clock import Clock
from .database import Database
from .errors import JournalError
from .locks import Locks

LOGGER = logging.getLogger(__name__)

KEPT_S = 7 * 24 * 3600
"""How long the service keeps predictions, and this machine their images."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    key TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    state TEXT NOT NULL,
    prediction_id TEXT,
    submitted_at REAL NOT NULL DEFAULT 0,
    adopted INTEGER NOT NULL DEFAULT 0,
    code INTEGER
);
CREATE TABLE IF NOT EXISTS predictions (id TEXT PRIMARY KEY, noted_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS uploads (
    digest TEXT NOT NULL, account TEXT NOT NULL, url TEXT NOT NULL, uploaded_at REAL NOT NULL,
    PRIMARY KEY (digest, account)
);
CREATE TABLE IF NOT EXISTS photos (address TEXT PRIMARY KEY, digest TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS draws (run TEXT PRIMARY KEY, seed INTEGER NOT NULL, drawn_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL, noted_at REAL NOT NULL)
"""
_ADDED = "place INTEGER NOT NULL DEFAULT 0, served_at REAL, ended_at REAL, looked INTEGER NOT NULL DEFAULT 0"


class State(str, Enum):
    """Where a job stands."""

    RESERVED = "reserved"
    SUBMITTING = "submitting"
    ACCEPTED = "accepted"
    COMPLETED = "completed"
    DOWNLOADED = "downloaded"
    DELIVERED = "delivered"
    REJECTED = "rejected"
    FAILED = "failed"
    UNKNOWN = "unknown"


OUTCOME_OPEN = (State.SUBMITTING, State.UNKNOWN)
"""A POST was sent and its outcome is not on record."""
PAID = (State.ACCEPTED, State.COMPLETED, State.DOWNLOADED, State.DELIVERED)
"""A prediction exists and its image can be collected."""


@dataclass(frozen=True)
class Row:
    """One job on record.

    Attributes:
        submitted_at: This machine's time of the POST, seconds since 1970.
        adopted: The prediction was found in the service's list, by its time alone.
        place: Which submission of this record it was, counted from 1; 0 before versions counted.
        served_at: The service's time of the POST, where it had told its clock.
        ended_at: This machine's time when nothing more could come of the POST; None after a crash.
        looked: Whether the list was searched until a prediction would have been in it.
    """

    key: str
    account: str
    state: State
    prediction_id: str | None
    submitted_at: float
    adopted: bool
    place: int
    served_at: float | None
    ended_at: float | None
    looked: bool

    def __post_init__(self) -> None:
        """Refuse what would be ordered again, since what was paid cannot be told."""
        if self.state in PAID and self.prediction_id is None:
            raise ValueError("a paid picture without its prediction")


_COLUMNS = ", ".join(field.name for field in fields(Row))


def _as_it_is(found: Any) -> Any:
    return found


def _number(found: Any) -> float:
    number = float(found)
    if not math.isfinite(number):
        raise ValueError("a number without end")
    return number


def _known(found: Any) -> float | None:
    return None if found is None else _number(found)


def _numbers(found: str) -> list[float]:
    return [_number(number) for number in json.loads(found)]


def _id(found: Any) -> str | None:
    if found is not None and not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", found):
        raise ValueError("a prediction whose id is none")
    return found


_KINDS: tuple[Callable[[Any], Any], ...] = (
    *(str, str, State, _id, _number, bool, int, _known, _known, bool),
)
"""What the columns become; ValueError and TypeError where the file holds something else."""


class Journal:
    """The record in one folder, shared by threads and processes; opened at its first use.

    Attributes:
        locks: Locks that reach as far as the record does.
    """

    def __init__(self, folder: Path, clock: Clock | None = None):
        self._path = folder / "journal.sqlite3"
        self._clock = clock or Clock()
        self._opening = threading.Lock()
        self._database: Database | None = None
        self._noted: set[str] = set()  # also what a full disk did not take
        self.locks = Locks(folder / "locks")

    def open(self) -> Database:
        """The database, tried out.

        Raises:
            JournalError: It cannot be written, locked or trusted.
        """
        with self._opening:
            if self._database is None:
                database = Database(self._path, _SCHEMA, {"jobs": _ADDED.split(", ")})
                self.locks.prove()
                self._database = database
            return self._database

    def delete(self) -> None:
        """Delete the record, so that the next use begins a new one."""
        with self._opening:
            if self._database:
                self._database.close()
            self._database = None
            self._noted.clear()
            Database.delete(self._path)

    def account_tag(self, secret: bytes) -> str:
        """A name for the account that does not give its key away."""
        return self._hash(secret)[:8]

    def _hash(self, content: bytes) -> str:
        with self.open().read() as reader:
            (salt,) = reader.execute("SELECT value FROM facts WHERE name = 'salt'").fetchone()
            return hmac.new(salt.encode(), content, hashlib.sha256).hexdigest()

    def find(self, key: str) -> Row | None:
        """The row of a job, if there is one."""
        rows = self._rows("key = ?", (key,))
        return rows[0] if rows else None

    def unsettled(self, account: str) -> list[Row]:
        """Every job of an account whose outcome is open, in the order of the POSTs."""
        names = tuple(state.value for state in OUTCOME_OPEN)
        return self._rows("account = ? AND state IN (?, ?) ORDER BY place", (account, *names))

    def open_jobs(self) -> list[Row]:
        """Every job that may be paid and was not delivered, of all accounts."""
        names = tuple(state.value for state in (*OUTCOME_OPEN, *PAID[:-1]))
        return self._rows(f"state IN ({', '.join('?' * len(names))}) ORDER BY place", names)

    def is_known(self, prediction_id: str) -> bool:
        """Whether some job owns that prediction, or did before it was run anew."""
        query = "SELECT 1 FROM predictions WHERE id = ?"
        return prediction_id in self._noted or self._value(query, prediction_id) is not None

    def _rows(self, condition: str, values: tuple[str, ...]) -> list[Row]:
        with self.open().read() as reader:
            query = f"SELECT {_COLUMNS} FROM jobs WHERE {condition}"  # noqa: S608 - literals
            return [
                Row(*(kind(value) for kind, value in zip(_KINDS, found, strict=True)))
                for found in reader.execute(query, values).fetchall()
            ]

    def _value(
        self, query: str, *values: str | float, kind: Callable[[Any], Any] = _as_it_is
    ) -> Any:
        """The first column of the first row that a query finds, as its kind; None without one."""
        with self.open().read() as reader:
            found = reader.execute(query, values).fetchone()
            return kind(found[0]) if found else None

    def _change(self, statement: str, *values: str | float | None) -> int:
        """How many rows one statement changed."""
        with self.open().change() as writer:
            return writer.execute(statement, values).rowcount

    def reserve(self, key: str, account: str) -> None:
        """Open a row for a job that is about to be submitted, forgetting what it was before."""
        statement = "INSERT OR REPLACE INTO jobs (key, account, state) VALUES (?, ?, ?)"
        self._change(statement, key, account, State.RESERVED.value)

    def submitting(self, key: str, served_at: float | None = None) -> None:
        """Note that the POST is about to leave, and make sure that the note is kept.

        Raises:
            JournalError: It is not; nothing may be sent.
        """
        database = self.open()
        with database.change() as writer:
            writer.execute(
                "INSERT INTO facts VALUES ('count', '1', 0) "
                "ON CONFLICT (name) DO UPDATE SET value = CAST(value AS INTEGER) + 1"
            )
            found = writer.execute("SELECT value FROM facts WHERE name = 'count'").fetchone()
            place = int(found[0])
            changed = writer.execute(
                "UPDATE jobs SET state = ?, submitted_at = ?, served_at = ?, place = ?, "
                "ended_at = NULL, looked = 0 WHERE key = ? AND prediction_id IS NULL",
                (State.SUBMITTING.value, self._clock.wall(), served_at, place, key),
            ).rowcount
        kept = database.read_back("SELECT place FROM jobs WHERE key = ?", (key,))
        if changed != 1 or kept != place:
            raise database.distrusted("does not keep what is written")
        database.testify(place)

    def lost(self, key: str) -> None:
        """Note that a POST is over and nobody knows what became of it."""
        self._update(key, "state = ?, ended_at = ?", State.UNKNOWN.value, self._clock.wall())

    def close_crashed(self, account: str) -> None:
        """Note as lost what a dead process was submitting; call with its lock for submissions."""
        for row in self.unsettled(account):
            if row.state is State.SUBMITTING:
                self.lost(row.key)

    def looked(self, key: str) -> None:
        """Note that the service's list held no prediction of a lost answer when it had to."""
        self._update(key, "looked = 1")

    def accepted(self, key: str, prediction_id: str, *, adopted: bool = False) -> None:
        """Note the prediction that now belongs to the job."""
        self._noted.add(prediction_id)
        with self.open().change() as writer:
            writer.execute(
                "UPDATE jobs SET state = ?, prediction_id = ?, adopted = ? WHERE key = ?",
                (State.ACCEPTED.value, prediction_id, int(adopted), key),
            )
            writer.execute(
                "INSERT OR IGNORE INTO predictions VALUES (?, ?)",
                (prediction_id, self._clock.wall()),
            )

    def move(
        self, key: str, state: State, prediction_id: str | None = None, code: int | None = None
    ) -> None:
        """Note that a job has reached a state, and its prediction where that is known."""
        self._update(
            key,
            "state = ?, prediction_id = COALESCE(?, prediction_id), code = ?",
            state.value,
            prediction_id,
            code,
        )

    def _update(self, key: str, assignments: str, *values: str | float | None) -> None:
        statement = f"UPDATE jobs SET {assignments} WHERE key = ?"  # noqa: S608 - literals
        if self._change(statement, *values, key) != 1:
            raise JournalError("A job is missing from the WaveSpeed record.")

    def uploaded_url(self, digest: str, account: str, within_s: float) -> str | None:
        """Where a photo was uploaded lately, if it was."""
        return self._value(
            "SELECT url FROM uploads WHERE digest = ? AND account = ? AND uploaded_at > ?",
            *(digest, account, self._clock.wall() - within_s),
        )

    def note_upload(self, digest: str, account: str, url: str, within_s: float) -> None:
        """Remember where a photo was uploaded; an address with a query may be signed, and is not.

        Addresses that are not used any more are forgotten.
        """
        now = self._clock.wall()
        address = self._hash(f"{account} {url}".encode())
        with self.open().change() as writer:
            writer.execute("INSERT OR REPLACE INTO photos VALUES (?, ?)", (address, digest))
            writer.execute("DELETE FROM uploads WHERE uploaded_at <= ?", (now - within_s,))
            if "?" not in url:
                values = (digest, account, url, now)
                writer.execute("INSERT OR REPLACE INTO uploads VALUES (?, ?, ?, ?)", values)

    def photo_at(self, url: str, account: str) -> str | None:
        """The digest of the photo that was uploaded to an address, where that is known."""
        address = self._hash(f"{account} {url}".encode())
        # Versions that kept addresses noted nothing else.
        old = "SELECT digest FROM uploads WHERE url = ? AND account = ?"
        noted = self._value("SELECT digest FROM photos WHERE address = ?", address)
        return noted or self._value(old, url, account)

    def forget_upload(self, digest: str, account: str) -> None:
        """Forget an upload that the service cannot read."""
        self._change("DELETE FROM uploads WHERE digest = ? AND account = ?", digest, account)

    def draw_seed(self, run: str) -> int:
        """A random seed, 0 to 2147483647, that stays the same until the run is delivered."""
        now = self._clock.wall()
        with self.open().change() as writer:
            writer.execute("DELETE FROM draws WHERE drawn_at < ?", (now - KEPT_S,))
            values = (run, secrets.randbelow(2**31), now)
            writer.execute("INSERT OR IGNORE INTO draws VALUES (?, ?, ?)", values)
            (seed,) = writer.execute("SELECT seed FROM draws WHERE run = ?", (run,)).fetchone()
            return int(seed)

    def settle_draw(self, run: str) -> None:
        """Let the next run draw a new seed."""
        self._change("DELETE FROM draws WHERE run = ?", run)

    def fact(self, name: str, within_s: float) -> float | None:
        """A number that was noted lately, if it was."""
        query = "SELECT value FROM facts WHERE name = ? AND noted_at > ?"
        return self._value(query, name, self._clock.wall() - within_s, kind=_number)

    def note_fact(self, name: str, value: float | list[float]) -> None:
        """Remember a number, or several."""
        statement = "INSERT OR REPLACE INTO facts VALUES (?, ?, ?)"
        self._change(statement, name, json.dumps(value), self._clock.wall())

    def durations(self, kind: str) -> list[float]:
        """How many seconds the last ten predictions of a kind took, oldest first."""
        query = "SELECT value FROM facts WHERE name = ?"
        return self._value(query, f"took {kind}", kind=_numbers) or []

    def note_duration(self, kind: str, seconds: float) -> None:
        """Remember how long a prediction took."""
        self.note_fact(f"took {kind}", [*self.durations(kind), seconds][-10:])


def try_to_note(change: Callable[[], object]) -> None:
    """Note what happened after a payment; when that fails, the row before it is still safe."""
    try:
        change()
    except JournalError as error:
        LOGGER.warning("What became of a WaveSpeed job is not on record: %s", error)
