"""The likeness gate and Load Face Model over real servers: what passes, and what is not run."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pulid_pack.devtools import example_photos
from pulid_pack.devtools.comfyui import ComfyServer
from pulid_pack.devtools.pages import assert_page_helps
from pulid_pack.tests.real_comfyui.portrait_graph import NODES, Prompt

pytestmark = pytest.mark.comfy

OUTPUTS = ("accepted", "rejected", "scores", "order", "report")


def node(class_type: str, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs}


FACES = node("PulidLoadFaceModel", face_model="antelopev2", provider="auto")
GATE: dict = {
    "images": ["pictures", 0],
    "reference": ["photo", 0],
    "face_model": ["faces", 0],
    "threshold": 0.99,
    "keep_best": 0,
}


def graph(pictures: dict, nodes: Prompt | None = None, **gate) -> Prompt:
    """Some pictures, the gate, and a node that shows each of its outputs."""
    return {
        "photo": NODES["photo"],
        "faces": FACES,
        "other": node("LoadImage", image="second-person.png"),
        "gray": node("EmptyImage", width=512, height=512, batch_size=1, color=0x808080),
        "pictures": pictures,
        "gate": node("PulidLikenessGate", **GATE | gate),
        **{name: node("PreviewImage", images=["gate", i]) for i, name in enumerate(OUTPUTS[:2])},
        **{name: node("PreviewAny", source=["gate", 2 + i]) for i, name in enumerate(OUTPUTS[2:])},
        **(nodes or {}),
    }


def batch(*names: str) -> dict:
    """A batch of pictures; nodes of two each."""
    first, second = ([name, 0] for name in names)
    return node("ImageBatch", image1=first, image2=second)


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.fixture
def gallery(matrix_server, tmp_path) -> ComfyServer:
    """Each ComfyUI of the matrix, with the example photos."""
    return with_photos(matrix_server, tmp_path)


def with_photos(server: ComfyServer, folder: Path) -> ComfyServer:
    for photo in example_photos.write_photos(folder):
        server.upload_image(photo)
    return server


def test_the_person_passes_and_the_others_are_told_why(gallery):
    """Three pictures: a gray one, the person in other light, the person's own photo."""
    two = {"two": batch("gray", "other")}
    run = gallery.run(graph(batch("two", "photo"), two))
    assert run.error is None, run.error
    (accepted,) = run.images["accepted"]
    assert np.array_equal(pixels(accepted), pixels(gallery.base_dir / "input/portrait.png"))
    assert len(run.images["rejected"]) == 2
    (score,) = run.outputs["scores"]["text"]
    assert float(score) == pytest.approx(1, abs=1e-6)
    assert run.outputs["order"]["text"] == ["2"]
    (report,) = run.outputs["report"]["text"]
    assert report.startswith("1 of 3 picture(s) accepted, similarity 0.99 or more\nImage 3: 1.000")
    assert "Image 1: rejected: the picture is one plain colour" in report
    assert run.outputs["gate"]["text"] == [report]
    assert len(run.images["gate"]) == 3


def test_nothing_accepted_and_nothing_follows(gallery):
    """The run ends well, the gate says why, and no node behind it ran: a batch may well fail."""
    run = gallery.run(graph(node("EmptyImage", width=64, height=64, batch_size=2, color=7)))
    assert run.error is None, run.error
    assert {"accepted", "scores", "order"}.isdisjoint(run.outputs)
    assert len(run.images["rejected"]) == 2
    (told,) = run.outputs["gate"]["text"]
    assert told.startswith("None of 2 picture(s) reached 0.99: no face was found. What follows")


def test_nothing_rejected_and_that_branch_is_not_run(gallery):
    run = gallery.run(graph(node("RepeatImageBatch", image=["photo", 0], amount=2)))
    assert run.error is None, run.error
    assert "rejected" not in run.outputs
    assert len(run.images["accepted"]) == 2


def test_the_best_of_several_runs_with_their_sizes(gallery):
    """A list of pictures is one field; the best of all is kept, on a sheet with its score."""
    nodes = {
        "grid": node("PulidTuningGrid", weights="0.75, 1", starts="0"),
        "sheet": node("PulidContactSheet", images=["gate", 0], scores=["gate", 2], columns=0, cell_px=128),
        "shown": node("PreviewImage", images=["sheet", 0]),
    }  # fmt: skip
    pictures = node("ImageScaleBy", image=["photo", 0], upscale_method="area", scale_by=["grid", 0])
    run = gallery.run(graph(pictures, nodes, threshold=0.5))
    assert run.error is None, run.error
    sizes = [pixels(path).shape[0] for path in run.images["accepted"]]
    assert sizes == [512, 384]
    assert run.outputs["order"]["text"] == ["1", "0"]
    assert len(run.images["shown"]) == 1
    best = gallery.run(graph(pictures, nodes, threshold=0.5, keep_best=1))
    assert [pixels(path).shape[0] for path in best.images["accepted"]] == [512]


def test_neither_pulid_nor_flux_is_needed_and_both_loaders_fit(server, tmp_path):
    """The whole loader serves as well; an identity of another face model is refused."""
    with_photos(server, tmp_path)
    whole = graph(node("RepeatImageBatch", image=["photo", 0], amount=1))
    whole["faces"] = NODES["loader"]
    assert server.run(whole).error is None
    likeness = node(
        "PulidFaceSimilarity", pulid=["light", 0], image=["photo", 0], reference=["photo", 0]
    )
    light = {"photo": NODES["photo"], "light": FACES, "likeness": likeness}
    run = server.run(light | {"value": node("PreviewAny", source=["likeness", 0])})
    assert float(run.outputs["value"]["text"][0]) == pytest.approx(1, abs=1e-6)


def test_one_clear_error_each(server, tmp_path):
    with_photos(server, tmp_path)
    run = server.run(graph(batch("photo", "other"), reference=["gray", 0]))
    assert "No face found in image 1 of 1" in run.error.message
    assert run.error.node_type == "PulidLikenessGate"
    assert_page_helps(run)
    refused = graph(batch("photo", "other"))
    refused["faces"] = node("PulidLoadFaceModel", face_model="buffalo_x", provider="auto")
    run = server.run(refused)
    assert "buffalo_x" in str(run.node_errors)
    assert "models missing" in str(run.node_errors)
    assert_page_helps(run)
