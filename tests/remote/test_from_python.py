"""As a library and as a command: files in, files out, and what was paid."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pulid_pack.pulid_core.errors import ReferenceImageError
from pulid_pack.pulid_core.wavespeed import Progress, WavespeedClient
from pulid_pack.pulid_core.wavespeed.command import main
from pulid_pack.pulid_core.wavespeed.errors import RemoteInputError, RemoteUnavailable
from pulid_pack.pulid_core.wavespeed.terminal import TerminalProgress
from wavespeed_faults import bomb_png
from wavespeed_standin import Standin
from wavespeed_testing import client_for, request

PICTURE = Image.fromarray(np.random.default_rng(2).integers(0, 256, (96, 80, 3), np.uint8))


def test_a_path_a_picture_and_an_array_are_one_photo(
    client: WavespeedClient, service: Standin, tmp_path
):
    """All three are the same job, which is paid once."""
    PICTURE.save(tmp_path / "face.png")
    for photo in (tmp_path / "face.png", str(tmp_path / "face.png"), PICTURE, np.asarray(PICTURE)):
        client.generate(photo, "a portrait", size="256*320", seed=7, max_cost_usd=0.1)
    assert service.paid == 1
    batch = client.generate(
        [PICTURE, np.asarray(PICTURE)[::-1]], "a portrait", size="256*320", seed=7
    )
    assert len(batch.images) == 2


def test_a_photo_is_turned_as_the_camera_meant_it(
    client: WavespeedClient, service: Standin, tmp_path
):
    """EXIF is read, transparency goes on white."""
    exif = Image.Exif()
    exif[0x0112] = 6
    PICTURE.save(tmp_path / "turned.png", exif=exif)
    client.generate(tmp_path / "turned.png", "a portrait", size="256*256", seed=1)
    with Image.open(io.BytesIO(next(iter(service.uploads.values())))) as uploaded:
        assert uploaded.size == (96, 80)


@pytest.mark.parametrize("content", [b"", b"no picture", bomb_png(20_000)])
def test_a_file_that_is_no_photo(
    content: bytes, client: WavespeedClient, service: Standin, tmp_path
):
    """One sentence with its path, before anything is sent."""
    path = tmp_path / "face.jpg"
    path.write_bytes(content)
    with pytest.raises(ReferenceImageError, match=r"face\.jpg cannot be read"):
        client.generate(path, "a portrait")
    assert not service.requests


@pytest.mark.parametrize(
    ("name", "first", "again"),
    [
        ("guidance_scale", 4, 4.0),
        ("guidance_scale", 0.0, -0.0),
        ("guidance_scale", np.float32(3.3), 3.3),
        ("seed", 7, np.int64(7)),
        ("width", 256, np.uint16(256)),
    ],
)
def test_one_number_written_in_two_ways(
    name: str, first: float, again: float, client: WavespeedClient, service: Standin
):
    """It is the same picture, and paid once."""
    client.run(request(**{name: first}))
    assert client.run(request(**{name: again})).metadata[0]["source"] == "cache"
    assert service.paid == 1


@pytest.mark.parametrize(
    "change", [{"guidance_scale": 4}, {"output_format": "webp"}, {"height": 256}, {"width": 320}]
)
def test_another_picture(change: dict, client: WavespeedClient, service: Standin):
    """What is asked for otherwise is no picture that is there already."""
    client.run(request())
    client.run(request(**change))
    assert service.paid == 2


WRONG = {
    "seed": (None, "7", 7.0, 1.5, [7], np.array([7, 7])),
    "num_images": (1.5, "2", None),
    "width": (256.0, "256", None),
    "guidance_scale": (None, "3.5", 1j, [3.5], np.array([1, 2])),
    "max_cost_usd": (None, "1", 10**400, float("nan")),
    "max_wait_s": (None, float("nan"), float("inf")),
    "prompts": ("a text", None, 5, [None], [b"bytes"], ["a", 5]),
    "on_partial_failure": ("Raise", None),
}


@pytest.mark.parametrize("name", WRONG)
def test_inputs_of_another_kind(name: str, client: WavespeedClient, service: Standin):
    """Each is refused in one sentence, before anything is sent."""
    for value in WRONG[name]:
        with pytest.raises(RemoteInputError, match=name):
            client.run(request(**{name: value}))
    with pytest.raises(RemoteInputError, match="size"):
        client.generate(PICTURE, "a text", size=1024)  # type: ignore[arg-type]
    assert not service.requests


def test_save_writes_the_services_own_bytes(client: WavespeedClient, service: Standin, tmp_path):
    """Named by prediction and format; two of one prediction do not overwrite each other."""
    batch = client.run(request(prompts=["one", "one"], output_format="webp"))
    first, second = batch.save(tmp_path / "new" / "folder")
    (job,) = service.jobs.values()
    assert first.name == f"{job.id}.webp"
    assert second.name == f"{job.id}-2.webp"
    assert first.read_bytes() == service._render(job)


def test_what_a_run_says_at_its_end(client: WavespeedClient, service: Standin):
    """What is new, what it costs, what is left; and nothing of a balance that cannot be had."""
    client.run(request(num_images=5))
    batch = client.run(request(num_images=6))
    assert batch.summary == "6 images, 1 new, about $0.02, balance $99.88"
    service.fail("balance", "503", times=9)
    assert client.run(request(seed=99)).summary == "1 image, 1 new, about $0.02"
    assert service.requests["balance"] == 3
    assert client.run(request()).summary == "1 image, 0 new, about $0.00 (list price)"


def test_the_price_is_per_size_and_account(service: Standin, tmp_path: Path):
    """A cheap size does not let a dear one past the limit."""
    service.key = None
    service.prices_usd = {"1536*1536": 0.40}
    client = client_for(service.url, tmp_path)
    client.run(request())
    with pytest.raises(Exception, match=r"about \$0.40 for 1 image"):
        client.run(request(width=1536, height=1536, max_cost_usd=0.05))
    assert client.estimate(request(width=1536, height=1536)).price_usd == 0.40
    asked = service.requests["price"]
    client_for(service.url, tmp_path, api_key="another-key").estimate(request())
    assert service.requests["price"] == asked + 1


def test_without_a_quote_the_list_price_is_named(client: WavespeedClient, service: Standin):
    """And not taken for a quote."""
    service.fail("price", "not_found")
    lines: list[str] = []
    client.run(request(), progress=lambda progress: lines.append(progress.line))
    assert lines[0] == "1 image(s), 1 new, about $0.02 (list price)"


def test_list(client: WavespeedClient, service: Standin, tmp_path: Path):
    """State, cost and address of all that was paid in 7 days, whoever ordered it."""
    client.run(request(num_images=2))
    client_for(service.url, tmp_path / "elsewhere").run(request(seed=50))
    listed = client.list()
    assert [item.prediction_id for item in listed] == [f"pred0000000{n}" for n in (3, 2, 1)]
    assert [item.is_ours for item in listed] == [False, True, True]
    assert {item.cost_usd for item in listed} == {0.02}
    assert all(item.url.startswith(service.url) and "?" not in item.url for item in listed)
    service.fail("billings", "not_found")
    assert {item.cost_usd for item in client.list()} == {None}


def test_commands(client: WavespeedClient, service: Standin, tmp_path: Path, capsys, monkeypatch):
    """list, collect and delete; what is open is said before anything is deleted."""
    client.run(request())
    service.fail("result", "500", times=6)
    with pytest.raises(RemoteUnavailable):
        client.run(request(seed=8))
    assert main(["list"], client) == 0
    assert "pred00000001" in capsys.readouterr().out
    assert main(["collect", "pred00000002", "--output", str(tmp_path / "out")], client) == 0
    assert (tmp_path / "out" / "pred00000002.png").is_file()
    capsys.readouterr()
    monkeypatch.setattr("builtins.input", lambda _: "n")
    assert main(["delete"], client) == 1
    assert "Still open: pred00000002 (accepted)" in capsys.readouterr().out
    assert client.store.load("pred00000001")[0]
    assert main(["delete", "--yes"], client) == 0
    assert not list(client.state_dir.glob("journal*"))
    assert not list(client.store.folder.iterdir())
    client.run(request())  # a new record
    assert service.paid == 3


def test_delete_is_the_way_out_of_damage(client: WavespeedClient, service: Standin):
    """A damaged record can be deleted, too."""
    client.run(request())
    client.journal.open().close()
    (client.state_dir / "journal.sqlite3").write_text("damaged " * 999)
    again = client_for(service.url, client.state_dir)
    assert main(["delete", "--yes"], again) == 0
    again.run(request())


def test_progress_in_a_log(capsys):
    """Without a terminal there is one line per change, and none per second."""
    show = TerminalProgress()
    assert not sys.stderr.isatty()
    for elapsed_s in range(20):
        show(Progress("0/1 · processing", 2, 4, elapsed_s))
    show(Progress("1/1", 4, 4, 21))
    assert capsys.readouterr().err == "0/1 · processing\n1/1\n"
