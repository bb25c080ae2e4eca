"""Auto-tune over real servers: ComfyUI's own execution makes the pictures, and every one is counted.

In place of a model, the photo fades into another by the weight: the similarity is known for each.
"""

import re

import numpy as np
import pytest
from PIL import Image
from pulid_pack.devtools.pages import assert_page_helps
from pulid_pack.pulid_core.sheet.curve import TARGET_RGB
from pulid_pack.tests.real_comfyui.portrait_graph import NODES, Prompt, portrait

pytestmark = pytest.mark.comfy


def node(class_type: str, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs}


FACES = node("PulidLoadFaceModel", face_model="antelopev2", provider="auto")
SHOWN = ("weight", "start_at", "similarity", "curve", "report")


def tune(blend_mode: str = "normal", **changes) -> Prompt:
    """A noise picture that becomes the photo as `factor` grows, between the two nodes."""
    start = {"weights": "0, 1", "starts": "0", "target": 0.8, "budget": 9} | changes
    return {
        "photo": NODES["photo"],
        "faces": FACES,
        "dark": node("EmptyImage", width=512, height=512, batch_size=1, color=0x202020),
        "start": node("PulidAutoTune", **start),
        "picture": node(
            "ImageBlend",
            image1=["dark", 0],
            image2=["photo", 0],
            blend_factor=["start", 0],
            blend_mode=blend_mode,
        ),
        "end": node(
            "PulidAutoTuneResult",
            tuning=["start", 2],
            image=["picture", 0],
            reference=["photo", 0],
            face_model=["faces", 0],
        ),
        **{name: node("PreviewAny", source=["end", i]) for i, name in enumerate(SHOWN) if i != 3},
        "curve": node("PreviewImage", images=["end", 3]),
    }


def text_of(run, name: str) -> str:
    return run.outputs[name]["text"][0]


def trials(report: str) -> list[tuple[float, float]]:
    """Weight and similarity of each."""
    found = re.findall(r"^\d+: weight (\S+), start \S+: (\S+)$", report, re.MULTILINE)
    return [(float(weight), float(similarity)) for weight, similarity in found]


def test_the_lowest_weight_is_found_and_every_picture_is_counted(matrix_server):
    ran = []
    run = matrix_server.run(
        tune(), on_event=lambda kind, data: ran.append(data) if kind == "executing" else None
    )
    assert run.error is None, run.error
    report = text_of(run, "report")
    made = trials(report)
    pictures = [data for data in ran if data.get("display_node") == "picture"]
    assert len(pictures) == len(made) <= 9
    assert f"{len(made)} of 9 picture(s) used." in report
    weight, similarity = float(text_of(run, "weight")), float(text_of(run, "similarity"))
    reached = [one for one in made if one[1] >= 0.8]
    assert similarity >= 0.8
    assert weight == min(reached)[0]
    missed = max(one[0] for one in made if one[0] < weight)
    assert weight - missed <= 0.05
    assert {data["display_node"] for data in ran} <= {
        *tune()
    }  # a copy shows itself on its original
    (curve,) = run.images["curve"]
    with Image.open(curve) as drawn:
        assert (np.asarray(drawn.convert("RGB")) == TARGET_RGB).all(axis=2).any()


def test_what_does_not_depend_on_the_strength_runs_once_and_nothing_runs_again(server):
    ran = []
    on_event = lambda kind, data: ran.append(data["node"]) if kind == "executing" else None  # noqa: E731
    prompt = tune(target=0.79)
    assert server.run(prompt, on_event=on_event).error is None
    assert ran.count("photo") + ran.count("faces") + ran.count("dark") <= 3
    again = server.run(prompt)
    assert not [number for number in again.executed_nodes if "picture" in number]


def test_an_unreachable_target_is_told_and_nothing_follows(matrix_server):
    """Also where every picture lacks the face: that counts as 0."""
    prompt = tune("multiply", target=1.0, budget=4)
    prompt["dark"]["inputs"]["color"] = 0x808080
    prompt["photo2"] = node("ImageInvert", image=["photo", 0])
    prompt["picture"]["inputs"]["image2"] = ["photo2", 0]
    run = matrix_server.run(prompt)
    assert run.error is None, run.error
    assert {"weight", "start_at", "similarity"}.isdisjoint(run.outputs)
    report = text_of(run, "report")
    assert report.startswith("Not reached: 1 was wanted, and the highest is")
    assert "4 of 4 picture(s) used." in report
    assert len(run.images["curve"]) == 1


def test_flux_samples_between_the_two(server):
    """The real graph: the model is loaded once, PulidApplyFlux and KSampler run for each picture."""
    ran = []
    prompt = portrait(
        {
            "faces": FACES,
            "start": node("PulidAutoTune", weights="0.5, 1", starts="0.4, 0", target=0.9, budget=3),
            "end": node(
                "PulidAutoTuneResult",
                tuning=["start", 2],
                image=["decode", 0],
                reference=["photo", 0],
                face_model=["loader", 0],
            ),
            "report": node("PreviewAny", source=["end", 4]),
        },
        apply={"weight": ["start", 0], "start_at": ["start", 1]},
    )
    del prompt["save"]
    on_event = lambda kind, data: ran.append(data["display_node"]) if kind == "executing" else None  # noqa: E731
    run = server.run(prompt, on_event=on_event)
    assert run.error is None, run.error
    assert [ran.count(name) for name in ("apply", "sampler", "decode")] == [3, 3, 3]
    assert ran.count("flux") <= 1
    report = text_of(run, "report")
    assert "1: weight 0.5, start 0.4: 0.000" in report
    assert "2: weight 1, start 0: 0.000" in report


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"start": {"weights": "1"}}, "needs a range to search"),
        ({"start": {"weights": "1, 2, 3"}}, "weights should be one number, or two"),
        ({"picture": {"blend_factor": 0.5}}, "image does not come of them"),
        ({"end": {"tuning": ["faces", 0]}}, "tuning"),
    ],
    ids=str,
)
def test_one_clear_error_each(server, changes, text):
    prompt = tune()
    for name, inputs in changes.items():
        prompt[name]["inputs"] |= inputs
    run = server.run(prompt)
    assert text in run.error.message + str(run.node_errors)
    if not run.node_errors:
        assert_page_helps(run)
