"""The record of every paid job, kept so that no crash makes anybody pay twice.

    reserved -> submitting -> accepted -> completed -> downloaded -> delivered
                    |-> rejected    refused, nothing was created
                    |-> unknown     sent, and no answer said what became of it
                    `-> (accepted) -> failed

`submitting` is on disk before the POST leaves, the prediction id before anything else happens
after the answer. A row found in `submitting` by whoever holds the job's lock is therefore a crash
between the two, and counts as `unknown`.

Rows hold hashes, ids and dates; no key, prompt, image or address with a query.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import os
import secrets
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from .clock import Clock
from .credentials import ApiKey
from .errors import JournalError
from .locks import FileLocks, Locks, ThreadLocks

LOGGER = logging.getLogger(__name__)

KEPT_S = 7 * 24 * 3600
"""How long the service keeps predictions, and this machine their images."""
UPLOAD_KEPT_S = 24 * 3600
PRICE_KEPT_S = 24 * 3600

_COLUMNS = "key, account, state, prediction_id, submitted_at, adopted"
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
CREATE TABLE IF NOT EXISTS draws (run TEXT PRIMARY KEY, seed INTEGER NOT NULL, drawn_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL, noted_at REAL NOT NULL);
"""


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
        submitted_at: The service's time of the POST, seconds since 1970.
        adopted: The prediction was found in the service's list, not in an answer.
    """

    key: str
    account: str
    state: State
    prediction_id: str | None
    submitted_at: float
    adopted: bool


class Journal:
    """The record in one SQLite file, shared by threads and processes.

    Attributes:
        durable: False when the folder cannot be written and the record dies with the process.
        locks: Locks that reach as far as the record does.
    """

    def __init__(self, folder: Path, clock: Clock | None = None):
        self._clock = clock or Clock()
        self._guard = threading.RLock()
        self._noted: set[str] = set()  # also what a full disk did not take
        self._photos: dict[tuple[str, str], str] = {}  # also addresses that are not written down
        self.durable = True
        self.locks: Locks
        try:
            self._database = self._open(folder)
            self.locks = FileLocks(folder / "locks")
        except (OSError, sqlite3.Error) as error:
            LOGGER.warning(
                "The WaveSpeed journal in %s cannot be written (%s): a crash or a restart forgets "
                "running jobs, and no submission is repeated.",
                folder,
                type(error).__name__,
            )
            self.durable = False
            self._database = _connect(":memory:")
            self.locks = ThreadLocks()
        weakref.finalize(self, self._database.close)

    def _open(self, folder: Path) -> sqlite3.Connection:
        """The file, made for its owner only.

        Rows are never dropped: a few hundred bytes an image, against paying twice under a clock
        that is wrong.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / "journal.sqlite3"
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        return _connect(path)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One change, on disk when the with statement ends.

        Raises:
            JournalError: It could not be written; nothing of it was.
        """
        failure = None
        with self._guard:
            try:
                self._database.execute("BEGIN IMMEDIATE")
                yield self._database
                self._database.execute("COMMIT")
            except sqlite3.Error as error:
                failure = JournalError(f"The WaveSpeed journal cannot be written: {error}.")
            finally:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
        if failure:
            raise failure

    def account_tag(self, key: ApiKey) -> str:
        """A name for the account that does not give the key away."""
        with self._transaction() as database:
            database.execute(
                "INSERT OR IGNORE INTO facts VALUES ('salt', ?, 0)", (secrets.token_hex(16),)
            )
            (salt,) = database.execute("SELECT value FROM facts WHERE name = 'salt'").fetchone()
        return hmac.new(salt.encode(), key.to_bytes(), hashlib.sha256).hexdigest()[:8]

    def find(self, key: str) -> Row | None:
        """The row of a job, if there is one."""
        rows = self._rows("key = ?", (key,))
        return rows[0] if rows else None

    def unsettled(self, account: str) -> list[Row]:
        """Every job of an account whose outcome is open, in the order of the POSTs."""
        names = tuple(state.value for state in OUTCOME_OPEN)
        return self._rows(
            "account = ? AND state IN (?, ?) ORDER BY submitted_at", (account, *names)
        )

    def is_known(self, prediction_id: str) -> bool:
        """Whether some job owns that prediction, or did before it was run anew."""
        if prediction_id in self._noted:
            return True
        with self._transaction() as database:
            found = database.execute("SELECT 1 FROM predictions WHERE id = ?", (prediction_id,))
            return found.fetchone() is not None

    def _rows(self, condition: str, values: tuple[str, ...]) -> list[Row]:
        with self._transaction() as database:
            query = f"SELECT {_COLUMNS} FROM jobs WHERE {condition}"  # noqa: S608 - literals
            found = database.execute(query, values).fetchall()
        return [
            Row(key, account, State(state), prediction_id, submitted_at, bool(adopted))
            for key, account, state, prediction_id, submitted_at, adopted in found
        ]

    def reserve(self, key: str, account: str) -> None:
        """Open a row for a job that is about to be submitted, forgetting what it was before."""
        with self._transaction() as database:
            database.execute(
                "INSERT OR REPLACE INTO jobs (key, account, state) VALUES (?, ?, ?)",
                (key, account, State.RESERVED.value),
            )

    def submitting(self, key: str, submitted_at: float) -> None:
        """Note that the POST is about to leave."""
        self._update(key, "state = ?, submitted_at = ?", State.SUBMITTING.value, submitted_at)

    def accepted(self, key: str, prediction_id: str, *, adopted: bool = False) -> None:
        """Note the prediction that now belongs to the job."""
        self._noted.add(prediction_id)
        with self._transaction() as database:
            database.execute(
                "UPDATE jobs SET state = ?, prediction_id = ?, adopted = ? WHERE key = ?",
                (State.ACCEPTED.value, prediction_id, int(adopted), key),
            )
            database.execute(
                "INSERT OR IGNORE INTO predictions VALUES (?, ?)",
                (prediction_id, self._clock.wall()),
            )

    def move(
        self,
        key: str,
        state: State,
        prediction_id: str | None = None,
        code: int | None = None,
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
        with self._transaction() as database:
            statement = f"UPDATE jobs SET {assignments} WHERE key = ?"  # noqa: S608 - literals
            if database.execute(statement, (*values, key)).rowcount != 1:
                raise JournalError("A job is missing from the WaveSpeed journal.")

    def uploaded_url(self, digest: str, account: str) -> str | None:
        """Where a photo was uploaded within the last day, if it was."""
        with self._transaction() as database:
            row = database.execute(
                "SELECT url FROM uploads WHERE digest = ? AND account = ? AND uploaded_at > ?",
                (digest, account, self._clock.wall() - UPLOAD_KEPT_S),
            ).fetchone()
        return row[0] if row else None

    def note_upload(self, digest: str, account: str, url: str) -> None:
        """Remember where a photo was uploaded; an address with a query may be signed, and is not."""
        self._photos[url, account] = digest
        if "?" in url:
            return
        with self._transaction() as database:
            database.execute(
                "INSERT OR REPLACE INTO uploads VALUES (?, ?, ?, ?)",
                (digest, account, url, self._clock.wall()),
            )

    def photo_at(self, url: str, account: str) -> str | None:
        """The digest of the photo that was uploaded to an address, where that is known."""
        if (url, account) in self._photos:
            return self._photos[url, account]
        with self._transaction() as database:
            row = database.execute(
                "SELECT digest FROM uploads WHERE url = ? AND account = ?", (url, account)
            ).fetchone()
        return row[0] if row else None

    def forget_upload(self, digest: str, account: str) -> None:
        """Forget an upload that the service cannot read."""
        with self._transaction() as database:
            database.execute(
                "DELETE FROM uploads WHERE digest = ? AND account = ?", (digest, account)
            )

    def price_usd(self) -> float | None:
        """The price of one image as quoted within the last day, if it was."""
        with self._transaction() as database:
            row = database.execute(
                "SELECT value FROM facts WHERE name = 'price' AND noted_at > ?",
                (self._clock.wall() - PRICE_KEPT_S,),
            ).fetchone()
        return float(row[0]) if row else None

    def note_price(self, price_usd: float) -> None:
        """Remember the price of one image."""
        with self._transaction() as database:
            database.execute(
                "INSERT OR REPLACE INTO facts VALUES ('price', ?, ?)",
                (repr(price_usd), self._clock.wall()),
            )

    def draw_seed(self, run: str) -> int:
        """A random seed, 0 to 2147483647, that stays the same until the run is delivered."""
        with self._transaction() as database:
            database.execute(
                "DELETE FROM draws WHERE run = ? AND drawn_at < ?",
                (run, self._clock.wall() - KEPT_S),
            )
            database.execute(
                "INSERT OR IGNORE INTO draws VALUES (?, ?, ?)",
                (run, secrets.randbelow(2**31), self._clock.wall()),
            )
            (seed,) = database.execute("SELECT seed FROM draws WHERE run = ?", (run,)).fetchone()
        return seed

    def settle_draw(self, run: str) -> None:
        """Let the next run draw a new seed."""
        with self._transaction() as database:
            database.execute("DELETE FROM draws WHERE run = ?", (run,))


def _connect(path: Path | str) -> sqlite3.Connection:
    """A connection for all threads, whose changes survive the loss of power."""
    database = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.executescript(_SCHEMA)
    return database
