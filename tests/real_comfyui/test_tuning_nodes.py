"""Tuning grid and contact sheet over real servers: lists, one run per combination, one sheet."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pulid_pack.devtools import example_photos
from pulid_pack.devtools.comfyui import inputs_of
from pulid_pack.devtools.pages import assert_page_helps
from pulid_pack.pulid_core.sheet.contact_sheet import BEST_RGB
from pulid_pack.pulid_core.sheet.tuning import START_RANGE, WEIGHT_RANGE
from pulid_pack.tests.real_comfyui.portrait_graph import NODES, Prompt

pytestmark = pytest.mark.comfy


def node(class_type: str, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs}


PHOTO, LOADER = NODES["photo"], NODES["loader"]
GRID = node("PulidTuningGrid", weights="0.7, 1", starts="0, 0.1, 0.2")
SHEET = node("PulidContactSheet", images=["photo", 0], columns=0, cell_px=128)


def graph(nodes: Prompt, **sheet) -> Prompt:
    """A photo, some nodes and the sheet, which is shown."""
    return {
        "photo": PHOTO,
        "sheet": node("PulidContactSheet", **SHEET["inputs"] | sheet),
        "shown": node("PreviewImage", images=["sheet", 0]),
        **nodes,
    }


def sheet_of(server, prompt: Prompt) -> np.ndarray:
    run = server.run(prompt)
    assert run.error is None, run.error
    (path,) = run.images["shown"]
    return np.asarray(Image.open(path).convert("RGB"))


def test_schema(matrix_server):
    """Found by pulid and likeness; a tooltip everywhere; lists; the apply node's limits."""
    for kind in ("PulidTuningGrid", "PulidContactSheet"):
        info = matrix_server.object_info(kind)[kind]
        assert {"pulid", "likeness"} <= set(info["search_aliases"])
        given = inputs_of(info).items()
        assert [name for name, (_, options) in given if not options.get("tooltip")] == []
        assert all(info["output_tooltips"])
    grid = matrix_server.object_info("PulidTuningGrid")["PulidTuningGrid"]
    assert grid["output"] == ["FLOAT", "FLOAT", "STRING", "INT"]
    assert grid["output_is_list"] == [True, True, True, False]
    apply = matrix_server.object_info("PulidApplyFlux")["PulidApplyFlux"]["input"]["required"]
    for name, limits in (("weight", WEIGHT_RANGE), ("start_at", START_RANGE)):
        assert (apply[name][1]["min"], apply[name][1]["max"]) == limits


def test_what_follows_the_grid_runs_once_for_each_combination(matrix_server):
    shows = {name: node("PreviewAny", source=["grid", i]) for i, name in enumerate("wsck")}
    run = matrix_server.run({"grid": GRID, **shows})
    assert run.error is None
    assert run.outputs["w"]["text"] == ["0.7"] * 3 + ["1.0"] * 3
    assert run.outputs["s"]["text"] == ["0.0", "0.1", "0.2"] * 2
    assert run.outputs["c"]["text"][4] == "weight 1, start 0.1"
    assert run.outputs["k"]["text"] == ["3"]


def test_scores_mark_the_best_of_several_runs(matrix_server, tmp_path: Path):
    """The portrait resembles itself more than the same astronaut in other light."""
    for photo in example_photos.write_photos(tmp_path):
        matrix_server.upload_image(photo)
    nodes = {
        "other": node("LoadImage", image="second-person.png"),
        "both": node("ImageBatch", image1=["other", 0], image2=["photo", 0]),
        "single": node("RebatchImages", images=["both", 0], batch_size=1),
        "loader": LOADER,
        "likeness": node(
            "PulidFaceSimilarity", pulid=["loader", 0], image=["single", 0], reference=["photo", 0]
        ),
    }
    prompt = graph(nodes, images=["single", 0], scores=["likeness", 0], columns=2)
    sheet = sheet_of(matrix_server, prompt)
    best = (sheet == BEST_RGB).all(axis=2)
    middle = sheet.shape[1] // 2
    assert best[:, middle:].any()
    assert not best[:, :middle].any()


def test_captions_come_from_the_grid_or_from_the_lines_of_one_text(matrix_server):
    """Six pictures in three columns; without captions the sheet is lower."""
    nodes = {"grid": GRID, "six": node("RepeatImageBatch", image=["photo", 0], amount=6)}
    inputs = {"images": ["six", 0], "columns": ["grid", 3]}
    captioned = sheet_of(matrix_server, graph(nodes, captions=["grid", 2], **inputs))
    plain = sheet_of(matrix_server, graph(nodes, **inputs))
    assert captioned.shape[1] == plain.shape[1]
    assert captioned.shape[0] > plain.shape[0]
    lines = [
        f"weight {weight}, start {start}" for weight in ("0.7", "1") for start in (0, 0.1, 0.2)
    ]
    nodes["lines"] = node("PrimitiveStringMultiline", value="\n".join(lines))
    written = sheet_of(matrix_server, graph(nodes, captions=["lines", 0], **inputs))
    assert np.array_equal(written, captioned)


def test_a_row_of_the_grid_holds_all_pictures_of_its_runs(matrix_server):
    """Two pictures for each of 2 x 3 combinations: six in a row, unless the user says three."""
    nodes = {
        "grid": GRID,
        "two": node("RepeatImageBatch", image=["photo", 0], amount=2),
        "runs": node(
            "ImageBlend",
            image1=["two", 0],
            image2=["two", 0],
            blend_factor=["grid", 1],
            blend_mode="normal",
        ),
    }
    inputs = {"images": ["runs", 0], "captions": ["grid", 2]}
    linked, six, three = (
        sheet_of(matrix_server, graph(nodes, columns=columns, **inputs))
        for columns in (["grid", 3], 6, 3)
    )
    assert np.array_equal(linked, six)
    assert three.shape[1] < linked.shape[1]


def test_alpha_is_on_white(matrix_server):
    """A photo that is transparent everywhere is a white one."""
    nodes = {
        "all": node("SolidMask", value=1.0, width=512, height=512),
        "clear": node("JoinImageWithAlpha", image=["photo", 0], alpha=["all", 0]),
        "white": node("EmptyImage", width=512, height=512, batch_size=1, color=0xFFFFFF),
    }
    clear, white = (
        sheet_of(matrix_server, graph(nodes, images=[name, 0])) for name in ("clear", "white")
    )
    assert np.array_equal(clear, white)


def test_one_clear_error_each(server):
    grid = {"grid": node("PulidTuningGrid", weights="2, six", starts="0")}
    run = server.run(graph(grid, captions=["grid", 2]))
    assert "weights should be numbers from -1 to 5" in run.error.message
    assert run.error.node_type == "PulidTuningGrid"
    assert_page_helps(run)
    run = server.run(graph({"grid": GRID}, captions=["grid", 2]))
    assert "6 captions and 1 pictures" in run.error.message
    assert run.error.node_type == "PulidContactSheet"
    assert_page_helps(run)
