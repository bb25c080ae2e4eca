"""Evaluate, whole: against the stand-in, whose pictures show faces, and a ComfyUI whose show none."""

import json
import shutil
import socket
import threading

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from pulid_pack.devtools import example_photos
from pulid_pack.devtools.wavespeed_standin import Standin
from pulid_pack.devtools.wavespeed_testing import client_for
from pulid_pack.pulid_core import wavespeed
from pulid_pack.pulid_core.errors import PulidError
from pulid_pack.pulid_core.evaluation import command, people
from pulid_pack.pulid_core.evaluation.judging import Judges, Sitter, copy_paste
from pulid_pack.pulid_core.evaluation.pose import HEAD, degrees_between, rotation
from pulid_pack.pulid_core.evaluation.prompts import GROUP_OF, PROMPTS
from pulid_pack.pulid_core.evaluation.record import Record
from pulid_pack.pulid_core.portraits import wavespeed as hosted
from pulid_pack.pulid_core.wavespeed.api import ApiLimits
from pulid_pack.tests.portraits.fake_comfyui import GRAPH, FakeComfyUI


@pytest.fixture(scope="module")
def judges(stage, tmp_path_factory):
    """The stage's face model, and another recogniser beside the same detector."""
    antelope = stage / "insightface/models/antelopev2"
    other = tmp_path_factory.mktemp("judges") / "auraface"
    shutil.copytree(antelope, other)
    model = onnx.load(other / "glintr100.onnx")
    (weight,) = (one for one in model.graph.initializer if list(one.dims) == [588, 512])
    values = np.random.default_rng(1).standard_normal((588, 512)).astype(np.float32)
    weight.CopyFrom(onnx.numpy_helper.from_array(values * 0.1, weight.name))
    onnx.save(model, other / "glintr100.onnx")
    return [antelope, other]


class Study:
    """One evaluation that is typed, perhaps again."""

    def __init__(self, folder, judges):
        self.judges = judges
        self.photos, self.output = folder / "people", folder / "out"
        self.said: list[str] = []

    def run(self, *more, agreed=lambda: True):
        arguments = [self.photos, "--quick", "--output", self.output, "--judges", *self.judges]
        options = command.parser().parse_args(list(map(str, [*arguments, *more])))
        command.run(options, self.said.append, agreed)

    def judged(self) -> int:
        return sum(line.startswith("Judged") for line in self.said)

    def rows(self) -> dict[str, dict[str, str]]:
        """The table, by group and column."""
        lines = (self.output / "table.md").read_text().splitlines()
        head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


def write_people(folder):
    """Ann with two photos, Ben with one."""
    (folder / "ann").mkdir(parents=True)
    portrait = Image.fromarray(example_photos.portrait())
    portrait.save(folder / "ann" / "1.png")
    portrait.rotate(8).save(folder / "ann" / "2.png")
    Image.fromarray(example_photos.second_person()).save(folder / "ben.png")


@pytest.fixture(scope="module", autouse=True)
def small():
    """One prompt of each group, and small pictures from the service."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "QUICK_PROMPTS", 1)
        patch.setattr(hosted, "SIZE", "256*256")
        yield


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("service")
    with (
        Standin(key="wsk-canary-0123456789abcdef") as standin,
        pytest.MonkeyPatch.context() as patch,
    ):
        client = client_for(standin.url, folder, limits=ApiLimits())
        patch.setattr(wavespeed, "WavespeedClient", lambda state: client, raising=False)
        yield standin


@pytest.fixture(scope="module")
def finished(service, judges, tmp_path_factory):
    """An evaluation at the service, done once."""
    study = Study(tmp_path_factory.mktemp("finished"), judges)
    write_people(study.photos)
    study.run("--servers", "wavespeed")
    return study


@pytest.fixture
def study(tmp_path, judges):
    """Another one, of the same people."""
    write_people(tmp_path / "people")
    return Study(tmp_path, judges)


@pytest.fixture
def again(finished, study):
    """The finished one's output, to go on from."""
    shutil.copytree(finished.output, study.output)
    return study


def test_whole_at_the_service(finished, service):
    """The stand-in gives the tinted photo back: alike, a copy, unturned."""
    assert finished.said[0].startswith(
        "2 people (1 with held-out photos) x 4 prompts x 1 seeds = 8"
    )
    assert "8 pictures at $0.020 are $0.16" in finished.said[1]
    assert service.paid == finished.judged() == 8
    rows = finished.rows()
    assert set(rows) == {*PROMPTS, "all"}
    assert rows["all"]["pictures"] == "8"
    assert rows["pose"]["no face"] == "0.0%"
    both = [float(rows["all"][f"{name}: reference"]) for name in ("antelopev2", "auraface")]
    assert min(both) > 0.5
    assert both[0] != both[1]
    assert float(rows["all"]["copy-paste"]) > 0
    assert float(rows["all"]["pose change"].rstrip("°")) < 10
    assert float(rows["all"]["seconds"]) > 0
    with Image.open(finished.output / "sheet.jpg") as sheet:
        assert sheet.width > sheet.height


def test_what_is_done_is_neither_painted_nor_judged_again(again, finished, service):
    again.run("--servers", "wavespeed", agreed=lambda: False)
    assert (service.paid, again.judged()) == (8, 0)
    assert again.rows() == finished.rows()


def test_what_was_cut_short_goes_on(again, finished, service):
    """Killed while it wrote what it had learned of the sixth picture."""
    record = again.output / "figures.jsonl"
    lines = record.read_bytes().split(b"\n")
    places = [number for number, line in enumerate(lines) if b'"judged"' in line]
    record.write_bytes(b"\n".join(lines[: places[5] + 1])[:-9])
    again.run("--servers", "wavespeed")
    assert (service.paid, again.judged()) == (8, 3)
    assert again.rows() == finished.rows()


def test_figures_hold_for_the_same_photos_and_judges_alone(study, judges):
    """What the record's figures are good for."""
    ann, ben = people.read_people(study.photos)
    both, one = Judges.load(judges), Judges.load(judges[:1])
    digests = [Sitter.of(ann, both).digest, Sitter.of(ann, one).digest, Sitter.of(ben, both).digest]
    alone = people.Person("ann", ann.reference)
    assert len({*digests, Sitter.of(alone, both).digest}) == 4


def test_pictures_without_faces_are_counted(study):
    """On a ComfyUI; memory is what it has in use."""
    graph = study.photos.parent / "graph.json"
    graph.write_text(json.dumps(GRAPH))
    with FakeComfyUI() as server:
        study.run("--servers", server.url, "--graph", graph)
        assert len(server.painted) == 8
    row = study.rows()["all"]
    assert row["no face"] == "100.0%"
    assert row["antelopev2: reference"] == ""
    assert row["memory"] == "8192 MiB"


def test_nobody_pays_for_a_photo_without_a_face(service, study):
    paid = service.paid
    Image.new("RGB", (300, 300), "teal").save(study.photos / "ann" / "0.png")
    with pytest.raises(PulidError, match=r"0\.png shows none"):
        study.run("--servers", "wavespeed")
    assert service.paid == paid


def test_a_folder_without_photos_is_refused(tmp_path):
    with pytest.raises(PulidError, match="Photos of people were wanted"):
        people.read_people(tmp_path)


def test_a_list_of_addresses_is_fetched_once(tmp_path, monkeypatch):
    (tmp_path / "list.txt").write_text("https://example.org/a\nhttps://example.org/b\n")
    asked = []
    monkeypatch.setattr(people, "_download", lambda address: asked.append(address) or b"x")
    for _ in range(2):
        folder = people.fetch_list(tmp_path / "list.txt", tmp_path / "photos", lambda _: None)
    assert asked == ["https://example.org/a", "https://example.org/b"]
    assert [person.name for person in people.read_people(folder)] == ["001", "002"]
    (tmp_path / "list.txt").write_text("http://example.org/a")
    with pytest.raises(PulidError, match="https address in each line"):
        people.fetch_list(tmp_path / "list.txt", tmp_path / "photos", lambda _: None)


def test_a_photo_that_is_cut_off_is_named_and_not_kept(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection = server.accept()[0]
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf of it")

        threading.Thread(target=answer, daemon=True).start()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with pytest.raises(PulidError, match="cannot be had: ProtocolError"):
            people._download(f"http://127.0.0.1:{server.getsockname()[1]}/a")


def test_twenty_prompts_in_four_groups():
    assert {group: len(prompts) for group, prompts in PROMPTS.items()} == dict.fromkeys(
        ("portrait", "pose", "expression", "style"), 5
    )
    assert len(GROUP_OF) == 20


@pytest.mark.parametrize("degrees", [0, 10, 35, 60])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_turned_head_is_measured(degrees, axis):
    """Seen from far away, in any size and place."""
    a, b = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.roll([[1, 0, 0], [0, a, -b], [0, b, a]], (axis, axis), axis=(0, 1))
    straight, turned = HEAD[:, :2], (HEAD @ turn.T)[:, :2] * 3 + (400, 80)
    assert degrees_between(rotation(straight), rotation(turned)) == pytest.approx(degrees, abs=1e-4)


def test_copy_paste_is_one_for_a_copy_and_falls_towards_the_other_photo():
    def at(degrees):
        angle = torch.tensor(np.radians(degrees))
        return torch.stack((torch.cos(angle), torch.sin(angle)))

    figures = [copy_paste(at(degrees), at(0), at(40)) for degrees in (0, 20, 40)]
    assert figures == pytest.approx([1, 0, -1], abs=1e-5)


def test_a_record_forgets_only_the_line_that_was_cut(tmp_path):
    record = Record(tmp_path / "r")
    record.note("a.png", seconds=1.0)
    record.note("a.png", face=True)
    record.note("b.png", seconds=2.0)
    path = tmp_path / "r"
    path.write_bytes(path.read_bytes()[:-4])
    again = Record(path)
    assert again.facts == {"a.png": {"seconds": 1.0, "face": True}}
    again.note("b.png", seconds=3.0)
    assert Record(path).facts["b.png"] == {"seconds": 3.0}
