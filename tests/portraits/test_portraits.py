"""Many portraits: what is painted, where, how often, and what is said; servers that only count."""

import contextlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psutil
import pytest
from PIL import Image, PngImagePlugin
from pulid_pack.devtools.comfyui import ROOT
from pulid_pack.devtools.wavespeed_standin import Standin
from pulid_pack.devtools.wavespeed_testing import client_for
from pulid_pack.pulid_core import wavespeed
from pulid_pack.pulid_core.errors import MissingDependencyError
from pulid_pack.pulid_core.portraits import comfyui, command, engine
from pulid_pack.pulid_core.portraits import wavespeed as hosted
from pulid_pack.pulid_core.portraits.errors import PortraitsError
from pulid_pack.pulid_core.portraits.table import read_table
from pulid_pack.pulid_core.wavespeed.api import ApiLimits
from pulid_pack.tests.portraits.fake_comfyui import GRAPH, FakeComfyUI

TABLE = 'person,prompt,seed\nanna.png,in the rain,1\nben.png,"at sea,\nby night",2\n,,3\n'
ALL = 2 * 2 * 3


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(comfyui, "POLL_S", 0.005)
    monkeypatch.setattr(comfyui, "PATIENCE_S", 0.2)
    monkeypatch.setattr(comfyui.ComfyUI.__init__, "__defaults__", (0.2,))


class Desk:
    """A folder with a table, two photos and a graph, and the command to type."""

    def __init__(self, folder: Path):
        self.folder, self.output = folder, folder / "out"
        self.said: list[str] = []
        (folder / "table.csv").write_text(TABLE, encoding="utf-8")
        (folder / "graph.json").write_text(json.dumps(GRAPH), encoding="utf-8")
        for name, color in (("anna", "red"), ("ben", "blue")):
            Image.new("RGB", (64, 80), color).save(folder / f"{name}.png")

    def run(self, *servers: str, more=(), agreed=lambda: False) -> None:
        arguments = [self.folder / "table.csv", "--output", self.output, "--servers", *servers]
        if servers != ("wavespeed",):
            arguments += ["--graph", self.folder / "graph.json"]
        options = command.parser().parse_args([*map(str, arguments), *more])
        command.run(options, self.said.append, agreed)

    def pictures(self) -> list[Path]:
        return sorted(self.output.glob("*.png"))


@pytest.fixture
def desk(tmp_path) -> Desk:
    return Desk(tmp_path)


def test_every_person_with_every_prompt_and_seed_once(desk):
    with FakeComfyUI() as server:
        desk.run(server.url)
        assert len(server.painted) == len(set(server.painted)) == ALL
        assert {text for _, text, _ in server.painted} == {"in the rain", "at sea,\nby night"}
        assert len(server.files) == 2
    assert len(desk.pictures()) == ALL
    with Image.open(desk.output / "sheet.jpg") as sheet:
        assert sheet.width > 2 * sheet.height  # a row for each of two people, six columns
    assert "2 people x 2 prompts x 3 seeds = 12 portraits, 0 of which" in desk.said[0]
    assert desk.said[-2].startswith(f"{ALL} of {ALL}, 0 s left: ben, seed 3")


def test_a_second_run_paints_what_is_new_alone(desk):
    with FakeComfyUI() as server:
        desk.run(server.url)
        desk.pictures()[0].unlink()
        server.forget()
        desk.run(server.url)
        assert len(server.painted) == ALL + 1
        with (desk.folder / "table.csv").open("a") as table:
            table.write(",,4\n")
        desk.run(server.url)
        assert len(server.painted) == ALL + 1 + 4
        desk.run(server.url)
        assert len(server.painted) == ALL + 1 + 4


def test_what_was_painted_while_nobody_looked_is_collected(desk):
    """The program was killed after the server had finished."""
    with FakeComfyUI() as server:
        desk.run(server.url)
        for picture in desk.pictures():
            picture.unlink()
        desk.run(server.url)
        assert len(server.painted) == ALL
    assert len(desk.pictures()) == ALL


@pytest.mark.parametrize("count", [2, 4])
def test_servers_share_the_work_evenly(count, desk):
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(FakeComfyUI(looks=8)) for _ in range(count)]
        desk.run(*(server.url for server in servers))
        shares = [len(server.painted) for server in servers]
    assert sum(shares) == ALL
    assert max(shares) - min(shares) <= 2


def test_a_lost_server_loses_nothing_and_repeats_nothing(desk):
    """Killed when it has painted two, in the middle of the third."""
    with FakeComfyUI(looks=4) as one, FakeComfyUI(looks=4) as other:
        look = one.look

        def look_until_two():
            if len(one.painted) == 2 and one.left:
                one.status = 500
                return {}
            return look()

        one.look = look_until_two
        desk.run(one.url, other.url)
        painted = Counter(one.painted + other.painted)
    assert len(painted) == ALL
    assert set(painted.values()) == {1}
    assert len(one.painted) == 2
    assert sum("does not answer" in line for line in desk.said) == 1


@pytest.mark.parametrize("route", ["/queue", "/history", "/upload", "/prompt", "/view", "/system"])
def test_a_server_that_dies_in_an_answer_is_asked_anew(route, desk):
    with FakeComfyUI() as server:
        cut = []
        server.cuts_off = lambda path: path.startswith(route) and not cut and not cut.append(path)
        desk.run(server.url)
        assert cut
        assert len(server.painted) == len(set(server.painted)) == ALL


def test_when_all_servers_are_lost_the_rest_is_named_and_comes_later(desk):
    with FakeComfyUI() as server:
        server.take, take = (
            (lambda body: (500, {}) if len(server.painted) > 2 else take(body)),
            server.take,
        )
        with pytest.raises(PortraitsError, match="12 portraits were wanted, but 9 are missing"):
            desk.run(server.url)
        server.take = take
        desk.run(server.url)
        assert len(server.painted) == len(set(server.painted)) == ALL


def test_a_server_that_restarts_in_time_is_waited_for(desk):
    with FakeComfyUI(looks=2) as server:
        look, calls = server.look, []

        def forget_once():
            if server.painted and server.left and not calls:
                calls.append(server.forget())
            return look()

        server.look = forget_once
        desk.run(server.url)
        assert len(set(server.painted)) == ALL
        assert sorted(server.queued.values()) == [1] * (ALL - 1) + [2]


def test_a_failed_portrait_is_tried_elsewhere_first(desk):
    """Where one server always fails, the other paints all."""
    with FakeComfyUI(fails=lambda _: True) as broken, FakeComfyUI() as whole:
        desk.run(broken.url, whole.url)
        assert len(whole.painted) == len(set(whole.painted)) == ALL


def test_what_failed_here_and_has_nobody_else_left_is_named(desk):
    """One server fails all, and the other, which would paint them, is lost."""
    with FakeComfyUI(fails=lambda _: True) as broken, FakeComfyUI(looks=3) as lost:
        look = lost.look

        def look_until_two():
            if len(lost.painted) == 2:
                lost.status = 500
                return {}
            return look()

        lost.look = look_until_two
        with pytest.raises(PortraitsError, match="12 portraits were wanted, but 10 are missing"):
            desk.run(broken.url, lost.url)
    assert len(desk.pictures()) == 2


def test_a_portrait_that_fails_everywhere_stops_no_other(desk):
    with FakeComfyUI(fails=lambda text: "rain" in text) as server:
        with pytest.raises(PortraitsError, match="12 portraits were wanted, but 6 are missing"):
            desk.run(server.url)
        assert server.failures["in the rain"] == 6 * engine.TRIES
        assert len(desk.pictures()) == 6
    assert sum("painted nothing: 'no room'" in line for line in desk.said) == 6


def test_a_server_without_the_models_says_so_and_takes_no_part(desk):
    errors = {
        "4": {"class_type": "UNETLoader", "errors": [{"details": "unet_name: 'x' not in []"}]}
    }
    with FakeComfyUI() as poor, FakeComfyUI() as rich:
        poor.refusal = {"error": {"message": "failed"}, "node_errors": errors}
        desk.run(poor.url, rich.url)
        assert len(rich.painted) == ALL
        assert poor.refused <= 2  # the second was on its way
    assert sum("cannot run the graph" in line and "UNETLoader" in line for line in desk.said) == 1


def test_a_picture_that_was_deleted_at_the_server_stops_no_other(desk):
    """It is in the server's history, and its file is gone."""
    with FakeComfyUI() as server:
        desk.run(server.url)
        desk.pictures()[0].unlink()
        server.is_empty = True
        with pytest.raises(PortraitsError, match="1 portraits were wanted, but 1 are missing"):
            desk.run(server.url)
    assert sum("refuses /view: HTTP 404" in line for line in desk.said) == 1


def test_the_same_photo_under_another_name_is_painted_for_both_names(desk):
    (desk.folder / "ben.png").write_bytes((desk.folder / "anna.png").read_bytes())
    with FakeComfyUI() as server:
        desk.run(server.url)
        assert len(server.painted) == ALL
    assert len(desk.pictures()) == ALL


def test_the_engine_opens_no_port_and_leaves_no_thread(desk):
    def listening():
        return {c.laddr for c in psutil.Process().net_connections() if c.status == "LISTEN"}

    with FakeComfyUI() as server:
        before = listening()
        during = []
        look, server.look = server.look, lambda: (during.append(listening()), look())[1]
        desk.run(server.url)
    assert during
    assert set(map(frozenset, during)) == {frozenset(before)}


def test_stopping_in_the_middle_leaves_whole_files(desk):
    def say(line):
        desk.said.append(line)
        if line.startswith("3 of"):
            raise KeyboardInterrupt

    with FakeComfyUI() as server:
        options = command.parser().parse_args(
            [str(desk.folder / "table.csv"), "--output", str(desk.output), "--servers", server.url,
             "--graph", str(desk.folder / "graph.json")]
        )  # fmt: skip
        with pytest.raises(KeyboardInterrupt):
            command.run(options, say, lambda: False)
        assert len(desk.pictures()) == 3
        desk.run(server.url)
        assert len(server.painted) == len(set(server.painted)) == ALL


def test_a_picture_that_a_server_saved_is_a_graph_too(desk):
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", json.dumps(GRAPH))
    Image.new("RGB", (8, 8)).save(desk.folder / "graph.json", "PNG", pnginfo=info)
    with FakeComfyUI() as server:
        desk.run(server.url)
        assert len(server.painted) == ALL


def test_places_that_are_not_clear_are_named(desk):
    graph = GRAPH | {"7": {"class_type": "CLIPTextEncode", "inputs": {"text": "negative"}}}
    (desk.folder / "graph.json").write_text(json.dumps(graph))
    with pytest.raises(PortraitsError, match=r"place for the prompt.*2\.text, 7\.text.*--prompt"):
        desk.run("http://127.0.0.1:9")
    with FakeComfyUI() as server:
        desk.run(server.url, more=("--prompt", "2.text"))
        assert len(server.painted) == ALL


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"1": 2}', '{"nodes": [], "links": []}', "\x00"])
def test_what_is_no_graph_is_refused(text, desk):
    (desk.folder / "graph.json").write_text(text)
    with pytest.raises(PortraitsError, match=r"Export|Say which"):
        desk.run("http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("person;prompt;seed\na;b;1", "should have the columns person, prompt, seed"),
        ("person,prompt,seed\nanna.png,,1", "should have the columns"),
        ("person,prompt,seed\nnobody.png,x,1", "the table names .*nobody.png"),
        ("person,prompt,seed\nanna.png,x,-1", "the table names '-1'"),
        ("person,prompt,seed\nanna.png,x,9999999999999999", "whole numbers as seeds"),
    ],
)
def test_what_is_wrong_in_a_table_is_named(table, message, desk):
    (desk.folder / "table.csv").write_text(table)
    with pytest.raises(PortraitsError, match=message):
        read_table(desk.folder / "table.csv")


def test_a_table_from_a_spreadsheet_is_read(desk):
    (desk.folder / "table.csv").write_bytes(b"\xef\xbb\xbf" + TABLE.replace("\n", "\r\n").encode())
    assert len(read_table(desk.folder / "table.csv")[1]) == 2
    (desk.folder / "table.csv").write_bytes("person,prompt,seed\nänna.png,x,1".encode("latin-1"))
    with pytest.raises(PortraitsError, match="CSV and UTF-8"):
        read_table(desk.folder / "table.csv")


def test_without_dask_one_sentence_says_what_to_install(desk, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, engine.__name__)
    with pytest.raises(MissingDependencyError, match="pip install distributed"):
        desk.run("http://127.0.0.1:9")


def test_a_graph_that_pays_runs_on_one_server_alone(desk):
    """Each server keeps a record of its own, and a portrait moves when one is lost."""
    paying = {"class_type": "WavespeedFluxPulidRemote", "inputs": {"image": ["1", 0]}}
    (desk.folder / "graph.json").write_text(json.dumps(GRAPH | {"5": paying}))
    with pytest.raises(PortraitsError, match="would be paid twice"):
        desk.run("http://127.0.0.1:9", "http://127.0.0.1:10")
    with FakeComfyUI() as server:
        with pytest.raises(PortraitsError, match="Your word was wanted"):
            desk.run(server.url)
        assert "12 pictures at $0.020 are $0.24" in desk.said[-1]
        assert server.painted == []
        desk.run(server.url, agreed=lambda: True)
        assert len(server.painted) == ALL


@pytest.fixture
def service(desk, monkeypatch):
    with Standin(key="wsk-canary-0123456789abcdef") as standin:
        client = client_for(standin.url, desk.folder / "state", limits=ApiLimits())
        monkeypatch.setattr(hosted, "SIZE", "256*256")
        monkeypatch.setattr(wavespeed, "WavespeedClient", lambda state: client, raising=False)
        yield standin


def test_wavespeed_says_the_price_and_is_asked_once_for_each(service, desk):
    desk.run("wavespeed", agreed=lambda: True)
    assert service.paid == ALL
    assert "12 pictures at $0.020 are $0.24" in desk.said[1]
    desk.pictures()[0].unlink()
    desk.run("wavespeed", more=["--yes"])
    assert service.paid == ALL
    assert len(desk.pictures()) == ALL


def test_wavespeed_paints_nothing_without_consent_or_above_the_limit(service, desk):
    with pytest.raises(PortraitsError, match="Your word was wanted"):
        desk.run("wavespeed")
    with pytest.raises(PortraitsError, match=r"At most \$0\.20 may be spent, but 12 pictures"):
        desk.run("wavespeed", more=["--yes", "--max-cost", "0.2"])
    assert service.paid == 0


@pytest.mark.parametrize("name", ["portraits", "evaluate"])
def test_as_it_is_typed(name, tmp_path):
    """From the pack's folder: help, and one sentence on what is not there."""
    typed = [sys.executable, str(ROOT / "pulid.py"), name]
    told = subprocess.run([*typed, "--help"], capture_output=True, text=True, check=True).stdout
    assert "--servers" in told
    more = ["absent", "--judges", "absent"] if name == "evaluate" else ["absent"]
    done = subprocess.run(
        [*typed, *more], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 2
    assert "Traceback" not in done.stderr
