"""Bad input: one clear error each, and the next prompt runs."""

import os
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pulid_pack.devtools.comfyui import ROOT, ComfyServer
from pulid_pack.devtools.pages import assert_page_helps
from pulid_pack.pulid_core.model_files.catalogue import FACE_PARSING, FACE_RECOGNISER
from pulid_pack.tests.real_comfyui.portrait_graph import portrait
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def models(stage, tmp_path_factory):
    """The stage's files, and beside them files that are not what their names promise."""
    stage_copy = tmp_path_factory.mktemp("bad") / "models"
    shutil.copytree(stage, stage_copy, copy_function=os.symlink)
    pulid = stage_copy / "pulid"
    good = pulid / "pulid_flux_v0.9.1.safetensors"
    with good.open("rb") as file:
        (pulid / "cut.safetensors").write_bytes(file.read(2_000_000))
    save_file({"id_adapter.mapping_0.0.weight": torch.zeros(2)}, pulid / "sdxl.safetensors")
    torch.save({"weight": print}, stage_copy / "facexlib" / "code.pth")
    flux_folder = stage_copy / "diffusion_models"
    save_file(
        {
            "head.modulation": torch.zeros(1, 2, 128),
            "head.head.weight": torch.zeros(64, 128),
            "blocks.0.ffn.0.weight": torch.zeros(256, 128),
            "patch_embedding.weight": torch.zeros(128, 16, 1, 2, 2),
            "text_embedding.0.weight": torch.zeros(128, 4096),
        },
        flux_folder / "wan.safetensors",
    )
    flux = load_file(flux_folder / "flux1-dev.safetensors")
    shallow = ("double_blocks.0.", "double_blocks.1.", "single_blocks.0.")
    kept = {k: v for k, v in flux.items() if "_blocks." not in k or k.startswith(shallow)}
    save_file(kept, flux_folder / "shallow.safetensors")
    return stage_copy


@pytest.fixture(scope="module")
def bad_server(comfyui_dir, models, demo_photo, tmp_path_factory):
    """The newest ComfyUI with the odd files, pictures and nodes in place."""
    packs = (ROOT, Path(__file__).with_name("pack_of_test_nodes"))
    base = tmp_path_factory.mktemp("bad_input")
    with ComfyServer(comfyui_dir, base, models, packs=packs, cpu=True) as server:
        for picture in pictures(demo_photo, tmp_path_factory.mktemp("pictures")):
            server.upload_image(picture)
        yield server


def pictures(photo, folder):
    """The good photo, and some that nobody should upload."""
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    bad = {
        "no_face.png": Image.fromarray(noise),
        "one_pixel.png": Image.new("RGB", (1, 1)),
        "huge.png": Image.new("RGB", (12_000, 6_000), "gray"),
    }
    bad["huge.png"].paste(Image.open(photo).convert("RGB").resize((6_000, 6_000)))
    for name, picture in bad.items():
        picture.save(folder / name, compress_level=1)
    return [photo, *(folder / name for name in bad)]


def odd_image(kind: str) -> dict:
    inputs = {"kind": kind, "photo": ["photo", 0]}
    return {"odd": {"class_type": "PulidTestOddImage", "inputs": inputs}}


@pytest.mark.parametrize(
    ("changes", "texts"),
    [
        ({"photo": {"image": "no_face.png"}}, ["No face found in image 1 of 1", "100 px"]),
        ({"photo": {"image": "one_pixel.png"}}, ["1 x 1 px", "100 px"]),
        ({"odd": {"kind": "nan"}, "apply": {"reference": ["odd", 0]}}, ["NaN"]),
        ({"odd": {"kind": "empty batch"}, "apply": {"reference": ["odd", 0]}}, ["without images"]),
        ({"odd": {"kind": "five channels"}, "apply": {"reference": ["odd", 0]}}, ["channels"]),
        ({"loader": {"pulid_file": "cut.safetensors"}}, ["cut.safetensors", "download it again"]),
        ({"loader": {"pulid_file": "sdxl.safetensors"}}, ["sdxl.safetensors", "SDXL"]),
        ({"loader": {"face_parsing_file": "code.pth"}}, ["code.pth", "not loaded"]),
        ({"loader": {"eva_clip_file": "clip_l.safetensors"}}, ["clip_l.safetensors", "EVA02"]),
        (
            {"flux": {"unet_name": "wan.safetensors"}},
            ["needs a FLUX.1 or Chroma model", "got WAN21"],
        ),
        ({"flux": {"unet_name": "shallow.safetensors"}}, ["2 double and 1 single", "takes 2"]),
        ({"apply": {"start_at": 0.8, "end_at": 0.2}}, ["0.8", "0.2"]),
        ({"loader": {"pulid_file": "gone.safetensors"}}, ["gone.safetensors", "guozinan/PuLID"]),
        ({"loader": {"face_model": "gone"}}, ["gone", "antelopev2.zip"]),
    ],
    ids=str,
)
def test_one_clear_error_and_the_next_prompt_runs(bad_server, changes, texts):
    run = bad_server.run(portrait(odd_image("gray"), **changes))
    assert run.error is not None
    told = run.error.message + str(run.node_errors)
    for text in texts:
        assert text in told
    assert told.count("Traceback") == 0
    assert_page_helps(run)
    good = bad_server.run(portrait(sampler={"seed": time.time_ns()}))
    assert good.error is None
    assert "sampler" in good.executed_nodes


@pytest.mark.parametrize("changes", [{"odd": {"kind": "gray"}}, {"odd": {"kind": "rgba"}}], ids=str)
def test_gray_and_rgba_photos_work(bad_server, changes):
    run = bad_server.run(portrait(odd_image("gray"), apply={"reference": ["odd", 0]}, **changes))
    assert run.error is None


def test_a_huge_photo_works(bad_server):
    """12,000 pixels wide."""
    assert bad_server.run(portrait(photo={"image": "huge.png"})).error is None


def test_missing_files_are_told_at_queue_time(bad_server, models):
    """Before anything runs, and all at once: their folders, where they come from, how to get them."""
    files = (FACE_PARSING, FACE_RECOGNISER)
    hidden = [models / file.folder / file.name for file in files]
    for path in hidden:
        path.rename(path.with_suffix(".hidden"))
    try:
        run = bad_server.run(portrait())
        ((loader, refusal),) = run.node_errors.items()
        (error,) = refusal["errors"]
        assert error["extra_info"]["exception_type"] == "pulid.MissingFilesError"
        told = error["details"]
        command = told.partition("Fetch them with\n")[2].splitlines()[0]
        plan = subprocess.run(
            shlex.split(command),
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        ).stdout
    finally:
        for path in hidden:
            path.with_suffix(".hidden").rename(path)
    assert run.executed_nodes == []
    assert loader == "loader"
    for file, path in zip(files, hidden, strict=True):
        assert f"{path}:" in told
        assert file.summary in told
        assert f"to {path}" in plan
    assert plan.count("* ") == len(files)
