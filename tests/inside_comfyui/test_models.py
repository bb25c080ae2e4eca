"""Finding model files, and keeping models in memory only as long as they are needed."""

import comfy.memory_management
import comfy.model_management
import comfy.ops
import folder_paths
import numpy as np
import pytest
import skimage.data
import torch
from pulid_pack.nodes import model_files
from pulid_pack.nodes.loader import PulidLoader
from pulid_pack.nodes.pulid_models import Pulid, PulidPaths
from pulid_pack.pulid_core.errors import CheckpointError
from pulid_pack.pulid_core.pulid_file import PulidFile


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Empty model folders in two places, as extra_model_paths.yaml gives them."""
    places = tmp_path / "mine", tmp_path / "shared"
    names = {
        name: ([str(place / name) for place in places], {".safetensors", ".pt", ".pth"})
        for name in ("pulid", "clip_vision", "text_encoders", "facexlib", "insightface")
    }
    for paths, _ in names.values():
        for path in paths:
            (tmp_path / path).mkdir(parents=True)
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", names)
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    return places


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_auto_takes_the_best_known_name_in_any_folder(folders):
    mine, shared = folders
    touch(mine / "pulid/something_else.safetensors")
    older = touch(mine / "pulid/pulid_flux_v0.9.0.safetensors")
    assert model_files.find_file(model_files.PULID, "auto") == older
    newer = touch(shared / "pulid/sub/pulid_flux_v0.9.1.safetensors")
    assert model_files.find_file(model_files.PULID, "auto") == newer
    eva = touch(shared / "text_encoders/EVA02_CLIP_L_336_psz14_s6B.pt")
    assert model_files.find_file(model_files.EVA_CLIP, "auto") == eva


def test_a_missing_file_names_its_folder_and_its_source(folders):
    mine, _ = folders
    for kind in (model_files.PULID, model_files.EVA_CLIP, model_files.FACE_PARSING):
        with pytest.raises(CheckpointError) as raised:
            model_files.find_file(kind, "auto")
        assert raised.value.path.parent == mine / kind.folders[0]
        assert kind.source in str(raised.value)
    answer = PulidLoader.validate_inputs(pulid_file="auto", provider="auto")
    assert str(mine / "pulid") in answer


def test_face_packs_plain_and_in_the_zips_nested_folder(folders):
    mine, shared = folders
    assert model_files.face_model_choices() == ["antelopev2", "none"]
    with pytest.raises(CheckpointError, match=r"antelopev2\.zip"):
        model_files.find_face_model("antelopev2")
    nested = touch(shared / "insightface/models/antelopev2/antelopev2/scrfd_10g_bnkps.onnx")
    assert model_files.find_face_model("antelopev2") == nested.parent
    plain = touch(mine / "insightface/models/buffalo_l/det_10g.onnx")
    assert model_files.find_face_model("buffalo_l") == plain.parent
    assert model_files.face_model_choices() == ["antelopev2", "buffalo_l", "none"]


def loaded_kinds():
    loaded = comfy.model_management.current_loaded_models
    return {type(entry.model.model).__name__ for entry in loaded if entry.model is not None}


def test_encoder_models_are_read_late_loaded_while_used_and_offloaded(stage, monkeypatch):
    pulid = Pulid(
        PulidPaths(
            stage / "pulid/pulid_flux_v0.9.1.safetensors",
            stage / "clip_vision/EVA02_CLIP_L_336_psz14_s6B.pt",
            stage / "facexlib/parsing_bisenet.pth",
            stage / "insightface/models/antelopev2",
            "auto",
        )
    )
    assert pulid.get_models() == []
    encoder = {"FaceParser", "VisionTower", "IDFormer"}
    seen = set()
    check = comfy.model_management.throw_exception_if_processing_interrupted
    monkeypatch.setattr(
        comfy.model_management,
        "throw_exception_if_processing_interrupted",
        lambda: (seen.update(loaded_kinds()), check())[1],
    )
    photo = torch.from_numpy(skimage.data.astronaut().astype(np.float32) / 255).unsqueeze(0)
    identity = pulid.encode(photo)
    assert identity.tokens.dtype == torch.float32
    assert encoder <= seen
    assert not encoder & loaded_kinds()
    assert {type(patcher.model).__name__ for patcher in pulid.get_models()} == encoder


def test_weights_that_layers_make_only_while_loading(stage, monkeypatch):
    """With dynamic VRAM ComfyUI's layers have no weights before; every key is checked all the same."""
    if not hasattr(comfy.memory_management, "aimdo_enabled"):
        pytest.skip("this ComfyUI has no dynamic VRAM")
    file = PulidFile.open(stage / "pulid/pulid_flux_v0.9.1.safetensors")
    expected = file.load_encoder(comfy.ops.manual_cast).state_dict()
    monkeypatch.setattr(comfy.memory_management, "aimdo_enabled", True)
    lazy = file.load_encoder(comfy.ops.manual_cast).state_dict()
    assert expected.keys() == lazy.keys()
    assert all(torch.equal(expected[key], lazy[key]) for key in expected)
