"""A record that cannot be kept or trusted stops before anything is sent, at every start anew."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from pulid_pack.pulid_core.paid_jobs.journal import Journal
from pulid_pack.pulid_core.wavespeed import Clock, WavespeedClient
from pulid_pack.pulid_core.wavespeed.errors import JournalError, RemoteBudgetExceeded
from pulid_pack.pulid_core.wavespeed.uploads import USED_AGAIN_S
from wavespeed_standin import Standin
from wavespeed_testing import client_for, request

DEVTOOLS = Path(__file__).resolve().parents[2] / "devtools"
START = """
    import sys
    import registration
    from pathlib import Path
    from wavespeed_testing import client_for, request
    from pulid_pack.pulid_core.wavespeed.errors import JournalError
    {before}
    try:
        batch = client_for({url!r}, Path({folder!r})).run(request())
        print("delivered", batch.metadata[0]["source"])
    except JournalError as error:
        print("refused", error)
"""


def start(service: Standin, folder: Path, before: str = "", disk: str = "") -> str:
    """A program of its own; `disk` is a shell command in a world of its own mounts."""
    script = textwrap.dedent(START).format(before=before, url=service.url, folder=str(folder))
    command = [sys.executable, "-c", script]
    if disk:
        rights = ["-m"] if os.geteuid() == 0 else ["-U", "-r", "-m"]
        command = ["unshare", *rights, "sh", "-c", f'{disk} && exec "$@"', "sh", *command]
    ended = subprocess.run(command, cwd=DEVTOOLS, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


linux = pytest.mark.skipif(sys.platform != "linux", reason="mounts are made in Linux's way")


@linux
@pytest.mark.parametrize("free_kib", [0, 4, 16, 40, 80])
def test_full_disk(free_kib: int, service: Standin, tmp_path: Path):
    """However little is left, nothing is sent that is not on record."""
    fill = (
        f"mount -t tmpfs -o size=256k tmpfs {tmp_path} && "
        f"head -c {(256 - free_kib) * 1024} /dev/zero > {tmp_path}/filler"
    )
    assert start(service, tmp_path / "state", disk=fill).startswith("refused")
    assert (service.requests["submit"], service.requests["upload"]) == (0, 0)


@linux
def test_read_only_disk(service: Standin, tmp_path: Path):
    """Neither a new folder nor one in which a picture was paid before."""
    read_only = f"mount --bind {tmp_path} {tmp_path} && mount -o remount,ro,bind {tmp_path}"
    assert start(service, tmp_path / "new", disk=read_only).startswith("refused")
    start(service, tmp_path / "old")
    said = start(service, tmp_path / "old", disk=read_only)
    assert said.startswith("refused")
    assert "allow writing" in said
    assert service.requests["submit"] == 1


LOCKS = {
    "fail": "import errno, fcntl\ndef flock(*_): raise OSError(errno.ENOLCK, 'No locks available')\nfcntl.flock = flock",
    "are given to everybody": "import fcntl\nfcntl.flock = lambda *_: None",
}


@pytest.mark.skipif(sys.platform == "win32", reason="flock is POSIX")
@pytest.mark.parametrize("how", LOCKS)
def test_locks_that(how: str, service: Standin, tmp_path: Path):
    """A drive without working locks is refused, with the advice to use a local disk."""
    for _ in range(2):
        said = start(service, tmp_path, before=LOCKS[how])
        assert said.startswith("refused")
        assert "local disk" in said
    assert service.requests["submit"] == 0


def journal_of(folder: Path) -> Path:
    return folder / "journal.sqlite3"


def change(statement: str) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        with sqlite3.connect(journal_of(folder)) as database:
            database.execute(statement)
        database.close()

    return do


def half(folder: Path) -> None:
    data = journal_of(folder).read_bytes()
    journal_of(folder).write_bytes(data[: len(data) // 2])


def garbage(folder: Path) -> None:
    data = journal_of(folder).read_bytes()
    journal_of(folder).write_bytes(data[:100] + os.urandom(len(data) - 100))


def replaced_by_a_folder(folder: Path) -> None:
    journal_of(folder).unlink()
    journal_of(folder).mkdir()


def state_replaced_by_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("a file")


def older_copy(folder: Path) -> None:
    """The user restores yesterday's backup."""
    change("UPDATE facts SET value = 0 WHERE name = 'count'")(folder)
    change("DELETE FROM jobs")(folder)


def another(folder: Path) -> None:
    """The user copies the record of another machine."""
    other = folder.with_name("other")
    Journal(other).open().close()
    shutil.copy(journal_of(other), journal_of(folder))


def renamed(folder: Path) -> None:
    """The record's name is none, and the witness that knows the right one is gone."""
    change("UPDATE facts SET value = 'é' WHERE name = 'name'")(folder)
    (folder / "journal.witness").unlink()


DAMAGES = {
    "half": half,
    "garbage": garbage,
    "text": lambda folder: journal_of(folder).write_text("not a database " * 400),
    "empty": lambda folder: journal_of(folder).write_bytes(b""),
    "deleted": lambda folder: journal_of(folder).unlink(),
    "folder": replaced_by_a_folder,
    "state is a file": state_replaced_by_a_file,
    "older copy": older_copy,
    "another": another,
    "lost salt": change("DELETE FROM facts WHERE name = 'salt'"),
    "another salt": change("UPDATE facts SET value = 'pepper' WHERE name = 'salt'"),
    "salt of bytes": change("UPDATE facts SET value = x'00ff80' WHERE name = 'salt'"),
    "renamed": renamed,
    "unknown state": change("UPDATE jobs SET state = 'pondering'"),
    "time as text": change("UPDATE jobs SET submitted_at = 'yesterday'"),
    "time without end": change("UPDATE jobs SET submitted_at = -9e999"),
    "end without end": change("UPDATE jobs SET ended_at = -9e999"),
    "id of two lines": change("UPDATE jobs SET prediction_id = 'a' || char(10) || 'b'"),
    "id of bytes": change("UPDATE jobs SET prediction_id = x'00ff80'"),
    "paid without an id": change("UPDATE jobs SET prediction_id = NULL"),
    "count as text": change("UPDATE facts SET value = 'many' WHERE name = 'count'"),
    "dropped table": change("DROP TABLE predictions"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage(name: str, service: Standin, tmp_path: Path):
    """Whatever became of the record, no start pays again; the sentence tells how to go on."""
    folder = tmp_path / "state"
    client = client_for(service.url, folder)
    client.run(request())
    client.store.clear()
    client.journal.open().close()
    for leftover in folder.glob("journal.sqlite3-*"):
        leftover.unlink()
    DAMAGES[name](folder)
    for _ in range(3):
        with pytest.raises(JournalError) as caught:
            client_for(service.url, folder).run(request())
        assert "is" in caught.value.text
        assert any(word in str(caught.value) for word in ("begin a new record", "Make room"))
    assert (service.paid, service.requests["submit"]) == (1, 1)
    if name in ("half", "garbage", "text"):
        assert list(folder.glob("journal.sqlite3.damaged-*"))


@pytest.mark.parametrize(
    "durations", ["[NaN, Infinity, -1]", '"7"', "[" * 60_000, f"[{'9' * 400}]", "{}", "null"]
)
def test_damaged_durations(durations: str, service: Standin, tmp_path: Path):
    """How long pictures took is only advice: what was paid is delivered all the same."""
    client = client_for(service.url, tmp_path)
    client.run(request())
    change(f"UPDATE facts SET value = '{durations}' WHERE name LIKE 'took %'")(tmp_path)  # noqa: S608
    assert len(client.run(request(seed=8)).images) == 1


@pytest.mark.parametrize("price", ["-1", "nan", "-Infinity", "free"])
def test_damaged_prices(price: str, service: Standin, tmp_path: Path):
    """What is no price lets nothing through that may cost nothing."""
    client = client_for(service.url, tmp_path)
    client.run(request())
    change(f"UPDATE facts SET value = '{price}' WHERE name LIKE 'price %'")(tmp_path)  # noqa: S608
    with pytest.raises((RemoteBudgetExceeded, JournalError)):
        client.run(request(seed=8, max_cost_usd=0))
    assert service.paid == 1


def test_the_way_out_comes_true(service: Standin, tmp_path: Path):
    """Both files deleted, as the sentence says, a new record begins."""
    client_for(service.url, tmp_path).run(request())
    journal_of(tmp_path).write_text("damaged " * 999)
    with pytest.raises(JournalError, match=r"delete journal.sqlite3 and journal.witness"):
        client_for(service.url, tmp_path).run(request())
    (tmp_path / "journal.witness").unlink()
    client_for(service.url, tmp_path).run(request())
    assert service.paid == 2


def test_a_record_that_goes_while_it_is_used(service: Standin, tmp_path: Path):
    """Deleted under a running program, it is missed before the next order."""
    client = client_for(service.url, tmp_path)
    client.run(request())
    for path in tmp_path.glob("journal.*"):
        path.unlink()
    with pytest.raises(JournalError):
        client.run(request(seed=8))
    assert service.paid == 1


OLD = """
CREATE TABLE jobs (key TEXT PRIMARY KEY, account TEXT NOT NULL, state TEXT NOT NULL,
    prediction_id TEXT, submitted_at REAL NOT NULL DEFAULT 0, adopted INTEGER NOT NULL DEFAULT 0,
    code INTEGER);
CREATE TABLE predictions (id TEXT PRIMARY KEY, noted_at REAL NOT NULL);
CREATE TABLE uploads (digest TEXT NOT NULL, account TEXT NOT NULL, url TEXT NOT NULL,
    uploaded_at REAL NOT NULL, PRIMARY KEY (digest, account));
CREATE TABLE draws (run TEXT PRIMARY KEY, seed INTEGER NOT NULL, drawn_at REAL NOT NULL);
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL, noted_at REAL NOT NULL);
"""


def test_record_of_an_earlier_version(service: Standin, tmp_path: Path):
    """What was paid before the witness and the counter existed is found."""
    new = client_for(service.url, tmp_path / "new")
    service.fail("result", "500", times=6)
    with pytest.raises(Exception, match="no usable answer"):
        new.run(request())
    (tmp_path / "old").mkdir()
    with sqlite3.connect(journal_of(tmp_path / "old")) as old:
        old.executescript(OLD)
        with sqlite3.connect(journal_of(tmp_path / "new")) as current:
            columns = "key, account, state, prediction_id, submitted_at, adopted, code"
            (row,) = current.execute(f"SELECT {columns} FROM jobs")  # noqa: S608
            (salt,) = current.execute("SELECT * FROM facts WHERE name = 'salt'")
        current.close()
        old.execute("INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        old.execute("INSERT INTO facts VALUES (?, ?, ?)", salt)
    old.close()
    batch = client_for(service.url, tmp_path / "old").run(request())
    assert batch.metadata[0]["source"] == "resumed"
    assert (service.paid, service.requests["submit"]) == (1, 1)


def test_reading_waits_for_nobody(client: WavespeedClient):
    """While another program writes, what is on record can be read; waiting would be in vain."""
    client.run(request())
    with sqlite3.connect(journal_of(client.state_dir), isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        assert client.journal.unsettled("nobody") == []
        assert client.journal.fact("price", 1) is None
        other.execute("ROLLBACK")
    other.close()


def test_address_of_a_photo_is_kept_for_a_day(tmp_path: Path):
    """Then it is forgotten, and only its hash tells which photo a listed prediction was for."""
    now = [1_800_000_000.0]
    journal = Journal(tmp_path, Clock(wall=lambda: now[0]))
    journal.note_upload("digest-a", "account", "https://cdn.example/a-canary.png", USED_AGAIN_S)
    now[0] += 25 * 3600
    journal.note_upload("digest-b", "account", "https://cdn.example/b.png", USED_AGAIN_S)
    assert journal.photo_at("https://cdn.example/a-canary.png", "account") == "digest-a"
    with journal.open().read() as reader:
        assert [row[0] for row in reader.execute("SELECT url FROM uploads")] == [
            "https://cdn.example/b.png"
        ]
