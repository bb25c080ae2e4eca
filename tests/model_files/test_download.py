"""`pulid.py models NAME`: what is asked, fetched, resumed, checked and refused."""

import hashlib
import os
import select
import signal
import struct
import subprocess
import sys
import time

import pytest
from pulid_pack.devtools.comfyui import ROOT
from pulid_pack.pulid_core.errors import ModelDownloadError
from pulid_pack.pulid_core.model_files.catalogue import FACE_FILES, FLUX_FILES, PULID
from pulid_pack.pulid_core.model_files.download import Download, _check, _hub, _token, _told
from pulid_pack.tests.model_files.conftest import LARGE, TOKEN, environment, hub_name

FLUX = FLUX_FILES[0]


def place(comfyui, file):
    return comfyui / "models" / file.folder / file.name


def files_below(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_what_is_missing_comes_whole_and_into_its_place(run, hub, comfyui):
    old = place(comfyui, FACE_FILES[2])
    old.parent.mkdir(parents=True)
    old.write_bytes(b"the user's own")
    result = run("missing", "--yes")
    assert result.returncode == 0, result.stdout
    wanted = [file for file in FACE_FILES if file is not FACE_FILES[2]]
    for file in wanted:
        assert place(comfyui, file).read_bytes() == hub.files[hub_name(file)]
        assert f"{place(comfyui, file)}: complete, size and SHA-256 checked." in result.stdout
    assert old.read_bytes() == b"the user's own"
    assert files_below(comfyui) == {f"models/{file.folder}/{file.name}" for file in FACE_FILES}
    assert f"From {hub.url}:" in result.stdout
    assert hub.tokens_at_storage == []
    asked = len(hub.asked)
    assert "Nothing to download" in run("missing", "--yes").stdout
    assert len(hub.asked) == asked


def test_without_a_terminal_and_yes_nothing_happens(run, hub, comfyui):
    result = run("missing")
    assert result.returncode == 1
    assert "with --yes" in result.stdout
    assert hub.asked == []
    assert files_below(comfyui) == set()


def wait_until(done):
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Terminal:
    """`pulid.py models` on a terminal of its own."""

    def __init__(self, hub, comfyui, home, *arguments):
        fcntl, termios = map(pytest.importorskip, ("fcntl", "termios"))  # Windows has neither
        self.screen = ""
        self._side, other = os.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
        command = [sys.executable, str(ROOT / "pulid.py"), "models", *arguments]
        self.process = subprocess.Popen(
            [*command, "--comfyui", str(comfyui)],
            env=environment(hub, home),
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
        )
        os.close(other)

    def wait_for(self, text):
        wait_until(lambda: text in self.screen or not self.read())
        assert text in self.screen

    def read(self):
        if not select.select([self._side], [], [], 1)[0]:
            return True
        try:
            read = os.read(self._side, 4096)
        except OSError:  # the other side is closed
            return False
        self.screen += read.decode(errors="replace")
        return bool(read)

    def type(self, keys):
        os.write(self._side, keys)

    def end(self):
        wait_until(lambda: not self.read())
        os.close(self._side)
        return self.process.wait(timeout=60)


@pytest.mark.parametrize("answer", [b"n\n", b"\n", b"\x04", b"yes please\n"])
def test_anything_but_yes_is_no(hub, comfyui, tmp_path, answer):
    terminal = Terminal(hub, comfyui, tmp_path, "missing")
    terminal.wait_for("[y/N]")
    assert place(comfyui, PULID).name in terminal.screen
    terminal.type(answer)
    assert terminal.end() == 1
    assert "Nothing was downloaded." in terminal.screen
    assert hub.asked == []


def test_yes_downloads_with_progress(hub, comfyui, tmp_path):
    terminal = Terminal(hub, comfyui, tmp_path, PULID.name)
    terminal.wait_for("[y/N]")
    terminal.type(b"y\n")
    assert terminal.end() == 0
    assert place(comfyui, PULID).stat().st_size == LARGE
    assert f"{PULID.name}: 100%" in terminal.screen
    assert "24.0M/24.0M" in terminal.screen


def test_ctrl_c_keeps_what_has_come_and_the_next_run_fetches_the_rest(run, hub, comfyui, tmp_path):
    name = hub_name(PULID)
    hub.faults[name] = "slow"
    terminal = Terminal(hub, comfyui, tmp_path, PULID.name, "--yes")
    folder = place(comfyui, PULID).parent
    wait_until(lambda: any(path.stat().st_size for path in folder.glob("*.partial")))
    os.killpg(terminal.process.pid, signal.SIGINT)
    assert terminal.end() == 130
    assert "The next run goes on from here" in terminal.screen
    assert not place(comfyui, PULID).exists()
    (partial,) = folder.iterdir()
    begun = partial.stat().st_size

    hub.faults.clear()
    hub.served.clear()
    assert run(PULID.name, "--yes").returncode == 0
    assert hub.served[name] == LARGE - begun
    assert place(comfyui, PULID).read_bytes() == hub.files[name]
    assert not partial.exists()


def test_a_cut_connection_costs_only_the_rest_in_the_next_run(run, hub, comfyui):
    name = hub_name(PULID)
    hub.faults[name] = "cut"
    first = run(PULID.name, "--yes")
    assert first.returncode == 1
    assert "the same command goes on from there" in first.stdout
    (partial,) = place(comfyui, PULID).parent.iterdir()
    begun = partial.stat().st_size

    hub.faults.clear()
    hub.served.clear()
    assert run(PULID.name, "--yes").returncode == 0
    assert hub.served[name] == LARGE - begun < LARGE
    assert place(comfyui, PULID).read_bytes() == hub.files[name]


@pytest.mark.parametrize("fault", ["wrong", "short"])
def test_what_is_not_the_promised_file_is_deleted(run, hub, comfyui, fault):
    hub.faults[hub_name(PULID)] = fault
    result = run(PULID.name, "--yes")
    assert result.returncode == 1
    assert "is not the file that was promised" in result.stdout
    assert files_below(comfyui) == set()


@pytest.mark.parametrize("fault", ["gated", "denied"])
def test_a_gated_file_says_where_to_accept_the_licence(run, hub, comfyui, fault):
    hub.faults[hub_name(FLUX)] = fault
    result = run(FLUX.name, PULID.name, "--yes")
    assert result.returncode == 1
    assert FLUX.page in result.stdout
    assert "`hf auth login`" in result.stdout
    assert sum(hub.served.values()) == 0
    assert files_below(comfyui) == set()


@pytest.mark.parametrize(
    ("fault", "told"), [("gone", "404"), ("broken", "500"), ("no hub", "HF_ENDPOINT")]
)
def test_a_hub_that_does_not_have_it_is_told(run, hub, fault, told):
    hub.faults[hub_name(PULID)] = fault
    result = run(PULID.name, "--yes")
    assert result.returncode == 1
    assert told in result.stdout


@pytest.mark.parametrize(
    "variables",
    [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://user:secret@127.0.0.1:9"}],
    ids=str,
)
def test_without_network_the_files_can_be_copied_by_hand(run, comfyui, variables):
    result = run("missing", "--yes", **variables)
    assert result.returncode == 1
    assert "secret" not in result.stdout
    assert "set HF_ENDPOINT to a mirror" in result.stdout
    for file in FACE_FILES:
        told = f"* {file.url('https://huggingface.co')}\n  to {place(comfyui, file)}"
        assert told in result.stdout
    assert files_below(comfyui) == set()


def test_a_token_that_no_header_can_hold_is_not_told():
    with pytest.raises(ModelDownloadError, match="Set HF_TOKEN anew"), _told(_hub(), PULID, {}):
        f"{TOKEN}\u201d".encode("latin-1")


def test_a_token_never_goes_over_plain_http(run, hub):
    """Not even within this machine."""
    assert "no Hugging Face token is sent" in run(PULID.name).stdout
    assert run(PULID.name, "--yes").returncode == 0
    assert hub.asked
    assert hub.tokens == hub.tokens_at_storage == []


def test_a_token_goes_over_https(monkeypatch):
    hub = _hub()
    monkeypatch.setattr(hub.constants, "ENDPOINT", "https://huggingface.co")
    assert _token(hub) is None


@pytest.mark.parametrize("etag", ["5f1b" * 10, "free text"])
def test_without_the_hubs_sha256_the_catalogue_decides(run, hub, comfyui, etag):
    hub.etags[hub_name(PULID)] = etag
    result = run(PULID.name, "--yes")
    assert result.returncode == 1
    assert f"bytes in place of {PULID.size}" in result.stdout
    assert files_below(comfyui) == set()


def test_the_catalogues_sha256_is_compared(tmp_path):
    sha256 = hashlib.sha256(b"right").hexdigest()
    for content, is_right in ((b"right", True), (b"wrong", False)):
        wanted = Download(PULID, tmp_path / "file", "c", "an etag", 5, sha256)
        wanted.partial.write_bytes(content)
        if is_right:
            assert _check(wanted) == "size and SHA-256 checked"
        else:
            with pytest.raises(ModelDownloadError, match="SHA-256 differs"):
                _check(wanted)
            assert not wanted.partial.exists()


def test_a_full_disk_is_told_before_anything_comes(run, hub, comfyui):
    hub.faults[hub_name(FACE_FILES[-1])] = "huge"
    result = run("missing", "--yes")
    assert result.returncode == 1
    assert "are free there" in result.stdout
    assert sum(hub.served.values()) == 0
    assert files_below(comfyui) == set()


@pytest.mark.parametrize("method", ["Path.replace", "Path.unlink"])
def test_a_file_that_a_virus_scanner_holds_is_taken_up_by_the_next_run(run, hub, comfyui, method):
    hub.faults[hub_name(PULID)] = {"Path.replace": "", "Path.unlink": "wrong"}[method]
    broken = f"""
import errno, pathlib
def held(*_, **__):
    raise PermissionError(errno.EACCES, "in use")
pathlib.{method} = held
"""
    result = run(PULID.name, "--yes", broken=broken)
    assert result.returncode == 1
    assert f"{PULID.name} could not be written: [Errno 13] in use" in result.stdout
    hub.served.clear()
    if method == "Path.replace":
        assert run(PULID.name, "--yes").returncode == 0
        assert hub.served[hub_name(PULID)] == 0


def test_a_drive_that_is_not_there_is_named(run, hub, comfyui):
    """Here the root, which Linux always has."""
    result = run(
        PULID.name, "--yes", broken="import pathlib\npathlib.Path.exists = lambda _: False"
    )
    assert result.returncode == 1
    assert f"belongs into {place(comfyui, PULID).parent}, but / is not there" in result.stdout
    assert sum(hub.served.values()) == 0


def test_a_disk_that_cannot_be_asked_is_told(run, hub):
    broken = """
import shutil
def gone(_):
    raise OSError(5, "Input/output error", "/drive")
shutil.disk_usage = gone
"""
    result = run(PULID.name, "--yes", broken=broken)
    assert result.returncode == 1
    assert "[Errno 5] Input/output error: '/drive'" in result.stdout
    assert sum(hub.served.values()) == 0


def test_a_file_that_appeared_meanwhile_is_left_as_it_is(run, hub, comfyui):
    """Here a link to nowhere, which no look-up finds."""
    link = place(comfyui, PULID)
    link.parent.mkdir(parents=True)
    link.symlink_to("absent")
    result = run(PULID.name, "--yes")
    assert result.returncode == 1
    assert "was left as it is" in result.stdout
    assert link.is_symlink()
    (partial,) = (path for path in link.parent.iterdir() if path != link)
    link.unlink()
    hub.served.clear()
    assert run(PULID.name, "--yes").returncode == 0
    assert hub.served[hub_name(PULID)] == 0
    assert not partial.exists()


def test_without_huggingface_hub_one_sentence_says_what_to_install(comfyui):
    command = [sys.executable, "-I", "-S", str(ROOT / "pulid.py"), "models", "missing"]
    result = subprocess.run(
        [*command, "--comfyui", str(comfyui)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "pip install huggingface_hub` with the Python that runs ComfyUI" in result.stdout
