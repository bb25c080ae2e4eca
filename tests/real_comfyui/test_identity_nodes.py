"""The identity nodes over real servers: encoded once, saved, loaded elsewhere, compared."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pulid_pack.devtools.comfyui import ComfyServer, Run
from pulid_pack.devtools.pages import assert_page_helps
from pulid_pack.tests.real_comfyui.portrait_graph import Prompt, portrait
from safetensors.torch import load_file, save_file

ENCODED = "PuLID encoded an identity"
ENCODER_FOLDERS = ("clip_vision", "facexlib", "insightface")
RESTART = "restart/ann"
RESTART_FILE = f"{RESTART}.safetensors"


def node(class_type: str, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs}


ENCODE = node(
    "PulidEncodeIdentity",
    pulid=["loader", 0],
    image=["photo", 0],
    face_order="largest",
    face_index=0,
    fusion="concat",
    photo_weights="",
    on_missing_face="error",
)
SAVE_LATENT = node("SaveLatent", samples=["sampler", 0], filename_prefix="identity")


def save_node(name: str, **changes) -> dict:
    inputs = {"identity": ["encode", 0], "name": name, "if_exists": "number", "thumbnail": True}
    return node("PulidSaveIdentity", **inputs | changes)


def show(source: str, output: int) -> dict:
    return node("PreviewAny", source=[source, output])


def only(nodes: Prompt) -> Prompt:
    """A graph of these nodes, the photo and the loader, without FLUX."""
    return {name: portrait()[name] for name in ("photo", "loader")} | nodes


def shape_of(picture: Path) -> tuple[int, ...]:
    return np.asarray(Image.open(picture).convert("RGB")).shape


def text_of(run: Run, name: str) -> str:
    assert run.error is None, run.error
    return "".join(run.outputs[name]["text"])


def latent_of(run: Run, server: ComfyServer) -> torch.Tensor:
    assert run.error is None, run.error
    (entry,) = run.outputs["latent_file"]["latents"]
    return load_file(server.base_dir / "output" / entry["subfolder"] / entry["filename"])[
        "latent_tensor"
    ]


def test_all_nodes_in_one_graph(matrix_server):
    """Encode, save, blend, apply and compare, in every ComfyUI of the matrix."""
    nodes = {
        "encode": ENCODE,
        "keep": save_node("all_nodes/ann"),
        "blend": node(
            "PulidBlendIdentities", identity_a=["encode", 0], identity_b=["encode", 0], ratio=0.5
        ),
        "similarity": node(
            "PulidFaceSimilarity", pulid=["loader", 0], image=["photo", 0], reference=["encode", 0]
        ),
        "value": show("similarity", 0),
        "judgement": show("similarity", 1),
        "report": show("encode", 2),
        "file": show("keep", 0),
    }
    run = matrix_server.run(portrait(nodes, apply={"reference": ["blend", 0]}))
    assert float(text_of(run, "value")) == pytest.approx(1.0, abs=1e-6)
    assert "Image 1 of 1: best face 1.000" in text_of(run, "judgement")
    assert "1 face, took 0 in the order largest" in text_of(run, "report")
    assert Path(text_of(run, "file")).stat().st_size < 280_000
    (choice,) = run.images["encode"]
    assert shape_of(choice) == (672, 672 + 336, 3)
    (said,) = run.outputs["encode"]["text"]
    assert "Image 1: face 0 of 1, 91 x 116 px" in said
    (preview,) = run.images["similarity"]
    assert shape_of(preview) == (512, 512, 3)


def test_whatever_node_asks_a_photo_is_encoded_once_until_free(server):
    """PulidApplyFlux with the photo, PulidEncodeIdentity, another weight; then /free."""
    graph = only(
        {
            "flux": portrait()["flux"],
            "apply": portrait(apply={"weight": 0.7})["apply"],
            "model": show("apply", 0),
        }
    )
    assert server.run(graph).error is None
    encoded = server.log_text().count(ENCODED)
    graph |= {"encode": ENCODE, "report": show("encode", 2)}
    assert server.run(graph).error is None
    graph["apply"]["inputs"] |= {"reference": ["encode", 0], "weight": 0.8}
    assert server.run(graph).error is None
    assert server.log_text().count(ENCODED) == encoded
    server.free()
    assert server.run(graph).error is None
    assert server.log_text().count(ENCODED) == encoded + 1


@pytest.mark.parametrize(
    ("changes", "texts"),
    [
        ({"face_index": 3}, ["Face 3 was wanted in image 1 of 1, but only 1 face", "box 180,62"]),
        ({"photo_weights": "1, 1"}, ["1 photo(s) need 1 weight(s), but 2 were given"]),
        ({"photo_weights": "a lot"}, ["numbers separated by commas", "a lot"]),
        ({"image": ["empty", 0]}, ["No face found in image 1 of 1", "about 100 px"]),
        (
            {"image": ["empty", 0], "on_missing_face": "skip"},
            ["all 1 were skipped", "No face found in image 1 of 1"],
        ),
    ],
    ids=str,
)
def test_one_clear_error_each(server, changes, texts):
    encode = {**ENCODE, "inputs": ENCODE["inputs"] | changes}
    empty = node("EmptyImage", width=128, height=96, batch_size=1, color=0x808080)
    run = server.run(only({"encode": encode, "empty": empty, "report": show("encode", 2)}))
    for text in texts:
        assert text in run.error.message
    assert run.error.node_type == "PulidEncodeIdentity"
    assert_page_helps(run)


def test_a_saved_name_is_numbered_and_stays_in_its_folder(server):
    folder = server.base_dir / "output/pulid_identities"
    for file in folder.glob("ann*"):
        file.unlink()
    for thumbnail in (True, False):  # ComfyUI does not run equal nodes twice
        nodes = {"encode": ENCODE, "keep": save_node("ann", thumbnail=thumbnail)}
        assert server.run(only(nodes)).error is None
    assert sorted(file.name for file in folder.glob("ann*")) == [
        "ann.safetensors",
        "ann_2.safetensors",
    ]
    written = sorted(server.base_dir.rglob("ann*"))
    for name, settings, text in (
        ("ann", {"if_exists": "error"}, "exists already"),
        ("../ann", {}, "Choose a plain name"),
        (" ", {}, "Choose a plain name"),
        ("ann:2", {}, "without any of"),
    ):
        run = server.run(only({"encode": ENCODE, "keep": save_node(name, **settings)}))
        assert text in run.error.message
        assert_page_helps(run)
    assert sorted(server.base_dir.rglob("ann*")) == written


@pytest.fixture(scope="module")
def models_without_encoder(stage, tmp_path_factory) -> Path:
    """The stage without anything that looks at photos, and with a second PuLID file."""
    models = tmp_path_factory.mktemp("elsewhere") / "models"
    ignore = shutil.ignore_patterns(*ENCODER_FOLDERS)
    shutil.copytree(stage, models, copy_function=os.symlink, ignore=ignore)
    weights = load_file(models / "pulid/pulid_flux_v0.9.1.safetensors")
    weights["pulid_encoder.latents"] = weights["pulid_encoder.latents"] * 2
    save_file(weights, models / "pulid/pulid_flux_v0.9.0.safetensors")
    return models


def from_file(identity_file: str, **loader: str) -> Prompt:
    """The portrait of a saved person, without a photo, and with all that looks at photos left out."""
    without = dict.fromkeys(("eva_clip_file", "face_parsing_file", "face_model"), "none")
    graph = portrait(
        {
            "latent_file": SAVE_LATENT,
            "identity": node("PulidLoadIdentity", identity_file=identity_file),
            "origin": show("identity", 1),
        },
        apply={"reference": ["identity", 0], "weight": 1.5},
        sampler={"cfg": 3.0},
        loader=without | loader,
    )
    del graph["photo"]
    return graph


@pytest.fixture(scope="module")
def direct(server) -> torch.Tensor:
    """The latent from the photo; the person is saved besides.

    Guidance is above 1, so that the tokens of nobody count, too.
    """
    nodes = {"latent_file": SAVE_LATENT, "encode": ENCODE, "keep": save_node(RESTART)}
    strong = {"sampler": {"cfg": 3.0}, "apply": {"weight": 1.5}}
    direct = latent_of(server.run(portrait(nodes, **strong)), server)
    plain = {"sampler": {"cfg": 3.0, "model": ["flux", 0]}}
    assert not torch.equal(direct, latent_of(server.run(portrait(nodes, **plain)), server))
    return direct


@pytest.fixture(scope="module")
def elsewhere(direct, server, comfyui_dir, models_without_encoder, tmp_path_factory):
    """Another ComfyUI, started after the file was written; it can look at no photo."""
    base = tmp_path_factory.mktemp("elsewhere")
    saved = Path("output/pulid_identities") / RESTART_FILE
    (base / saved).parent.mkdir(parents=True)
    shutil.copy(server.base_dir / saved, base / saved)
    with ComfyServer(comfyui_dir, base, models_without_encoder, cpu=True) as other:
        other.upload_image(server.base_dir / "input/portrait.png")
        yield other


def test_round_trip_over_a_restart(elsewhere, direct):
    """Bit-identical latents: from the photo there, and from the file here."""
    run = elsewhere.run(from_file(RESTART_FILE, pulid_file="pulid_flux_v0.9.1.safetensors"))
    assert torch.equal(latent_of(run, elsewhere), direct)
    assert "1 photo(s), fusion concat" in text_of(run, "origin")
    (thumbnail,) = run.images["identity"]
    assert shape_of(thumbnail) == (112, 112, 3)


def test_a_file_for_another_pulid_is_refused(elsewhere):
    run = elsewhere.run(from_file(RESTART_FILE, pulid_file="pulid_flux_v0.9.0.safetensors"))
    for text in ("for pulid_flux_v0.9.0.safetensors", "it is for pulid_flux_v0.9.1"):
        assert text in run.error.message
    assert_page_helps(run)


def test_a_photo_where_nothing_can_look_at_it_is_refused(elsewhere):
    graph = from_file(RESTART_FILE) | {"photo": portrait()["photo"]}
    graph["apply"]["inputs"]["reference"] = ["photo", 0]
    run = elsewhere.run(graph)
    assert "face_model, but that is set to none" in run.error.message
    assert_page_helps(run)


def test_a_file_that_is_not_there_is_told(elsewhere):
    run = elsewhere.run(from_file("nobody.safetensors"))
    assert "This identity is not there" in run.error.message + str(run.node_errors)
    assert_page_helps(run)
