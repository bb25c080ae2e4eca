"""Finding model files, and keeping models in memory only as long as they are needed."""

import os
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import comfy.memory_management
import comfy.model_management
import comfy.ops
import folder_paths
import numpy as np
import pytest
import skimage.data
import torch
import utils.extra_config
from comfy.cli_args import args
from pulid_pack.nodes import face_similarity, model_files, pulid_models
from pulid_pack.nodes.apply_flux import PulidApplyFlux
from pulid_pack.nodes.face_similarity import PulidFaceSimilarity
from pulid_pack.nodes.identity import PulidEncodeIdentity
from pulid_pack.nodes.identity_files import PulidLoadIdentity
from pulid_pack.nodes.loader import PulidLoader
from pulid_pack.nodes.pulid_models import Pulid, PulidPaths
from pulid_pack.pulid_core.errors import MissingFilesError
from pulid_pack.pulid_core.identity.file import save_identity
from pulid_pack.pulid_core.model_files.catalogue import (
    EVA_CLIP,
    FACE_FILES,
    FACE_RECOGNISER,
    PULID,
)
from pulid_pack.pulid_core.model_files.finder import FoldersOnDisk, extra_folders
from pulid_pack.pulid_core.pulid_file import PulidFile
from pulid_pack.tests.inside_comfyui.world import World, execute, identity
from pulid_pack.tests.people import make_identity

ANOTHER = "of the face model antelopev2 is not the recogniser that PuLID was trained with"


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
    assert model_files.find_file(PULID, "auto") == older
    newer = touch(shared / "pulid/sub/pulid_flux_v0.9.1.safetensors")
    assert model_files.find_file(PULID, "auto") == newer
    eva = touch(shared / "text_encoders/EVA02_CLIP_L_336_psz14_s6B.pt")
    assert model_files.find_file(EVA_CLIP, "auto") == eva


def test_a_known_file_that_is_gone_is_replaced_by_its_own_kind_alone(folders, monkeypatch):
    """And the node says by which; a name of nobody's is told as missing."""
    mine, shared = folders
    monkeypatch.setattr(pulid_models, "Pulid", lambda paths: paths)  # the files are empty
    touch(mine / "pulid/another_model.safetensors")
    for gone in ("pulid_flux_v0.9.1.safetensors", "another.safetensors"):
        with pytest.raises(MissingFilesError, match=re.escape(gone)):
            model_files.find_file(PULID, gone)
    older = touch(shared / "pulid/pulid_flux_v0.9.0.safetensors")
    assert model_files.find_file(PULID, "pulid_flux_v0.9.1.safetensors") == older
    assert model_files.find_file(PULID, "from\\Windows\\pulid_flux_v0.9.1.safetensors") == older
    with pytest.raises(MissingFilesError, match="another"):
        model_files.find_file(PULID, "another.safetensors")
    found = PulidLoader.execute("pulid_flux_v0.9.1.safetensors", "none", "none", "none", "auto")
    (text,) = found.ui["text"]
    assert text == "pulid_file: pulid_flux_v0.9.0.safetensors for pulid_flux_v0.9.1.safetensors"
    newer = touch(shared / "pulid/flux/pulid_flux_v0.9.1.safetensors")
    assert model_files.find_file(PULID, "pulid_flux_v0.9.1.safetensors") == newer
    found = PulidLoader.execute("pulid_flux_v0.9.1.safetensors", "none", "none", "none", "auto")
    assert found.ui["text"] == ("",)


def test_the_newest_card_stands_first(tmp_path, monkeypatch):
    """Also when a file goes while they are listed; a file that was replaced is looked at again."""
    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path))
    older = save_identity(make_identity(), tmp_path / "older.png")
    newest = tmp_path / "pulid_identities" / "family" / "newest.png"
    touch(newest).write_bytes(older.read_bytes())
    os.utime(older, (1, 1))
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    touch(tmp_path / "photo.png")
    assert model_files.card_choices() == ["pulid_identities/family/newest.png", "older.png"]
    older.write_bytes(b"no card any more")
    assert model_files.card_choices() == ["pulid_identities/family/newest.png"]


def test_all_missing_files_are_told_at_once(folders):
    """Each with its place, what it is, size, licence and source; then the command that fetches them."""
    mine, shared = folders
    with pytest.raises(MissingFilesError) as raised:
        PulidLoader.execute("auto", "auto", "auto", "antelopev2", "auto")
    told = str(raised.value)
    choices = dict.fromkeys(("pulid_file", "eva_clip_file", "face_parsing_file"), "auto")
    with pytest.raises(MissingFilesError) as refused:
        PulidLoader.validate_inputs(**choices, face_model="antelopev2", provider="auto")
    assert str(refused.value) == told
    for file in FACE_FILES:
        assert f"\n* {mine / file.folder / file.name}: {file.summary}" in told
        assert file.name in told.splitlines()[0]
    assert told.splitlines()[1] == raised.value.command
    assert "press R in ComfyUI" in told

    touch(shared / "pulid/pulid_flux_v0.9.1.safetensors")
    touch(mine / "insightface/models/antelopev2/glintr100.onnx")
    with pytest.raises(MissingFilesError) as raised:
        PulidLoader.execute("auto", "none", "gone.pth", "antelopev2", "auto")
    parser, detector = raised.value.files
    assert parser == mine / "facexlib/gone.pth"
    assert "auto takes parsing_bisenet.pth" in str(raised.value)
    assert detector == mine / "insightface/models/antelopev2/scrfd_10g_bnkps.onnx"


def test_linked_inputs_are_left_to_the_execution(folders):
    """ComfyUI gives None for them: neither refused at queue time, nor a reason to load again."""
    mine, _ = folders
    touch(mine / "pulid/ann.safetensors")
    choices = {"pulid_file": "ann.safetensors", "eva_clip_file": None, "face_model": None}
    assert PulidLoader.validate_inputs(**choices, face_parsing_file="none", provider=None) is True
    assert PulidLoader.fingerprint_inputs(**choices) == PulidLoader.fingerprint_inputs(**choices)
    assert PulidLoadIdentity.validate_inputs(image=None, identity_file=None) is True
    assert PulidLoadIdentity.fingerprint_inputs(image="", identity_file=None) is None


def test_a_replaced_file_is_noticed(folders):
    """Also one within the InsightFace pack."""
    mine, _ = folders
    pulid = touch(mine / "pulid/pulid_flux_v0.9.1.safetensors")
    pack = mine / "insightface/models/antelopev2"
    recogniser = touch(pack / "glintr100.onnx")
    touch(pack / "scrfd_10g_bnkps.onnx")

    def fingerprint():
        return PulidLoader.fingerprint_inputs(pulid_file="auto", face_model="antelopev2")

    seen = [fingerprint()]
    for path in (recogniser, pulid):
        path.write_bytes(b"another")
        seen.append(fingerprint())
        assert seen[-1] not in seen[:-1], path


def test_the_command_told_names_the_folders_of_this_comfyui(monkeypatch, tmp_path):
    """Wherever the pack and the models lie, and whatever file names more; quoted for a shell."""
    base, config = tmp_path / "Comfy UI", tmp_path / "more.yaml"
    touch(config)
    around, elsewhere = base / "custom_nodes/pack", tmp_path / "pack"
    models, weights = base / "models", tmp_path / "weights"
    monkeypatch.setattr(folder_paths, "__file__", str(base / "folder_paths.py"))
    for models_dir, pack, configs, options in (
        (models, around, None, []),
        (models, elsewhere, None, ["--models", models]),
        (weights, around, None, ["--models", weights]),
        (models, around, [[config]], ["--models", models, "--extra-model-paths-config", config]),
    ):
        monkeypatch.setattr(folder_paths, "models_dir", str(models_dir))
        monkeypatch.setattr(model_files, "PACK", pack)
        monkeypatch.setattr(args, "extra_model_paths_config", configs)
        command = [sys.executable, pack / "pulid.py", "models", "missing", *options]
        assert shlex.split(model_files.fetch_command()) == list(map(str, command))


def test_the_command_told_suits_windows_shells():
    line = model_files._for_windows(["C:\\py\\python.exe", "C:\\AI (new)\\pulid.py", "models"])
    assert line == 'C:\\py\\python.exe "C:\\AI (new)\\pulid.py" models'
    line = model_files._for_windows(["C:\\My AI\\python.exe", "pulid.py"])
    assert line == '"C:\\My AI\\python.exe" pulid.py   (in PowerShell, with & in front)'


def test_the_command_searches_where_comfyui_does(monkeypatch, tmp_path):
    """The roots read from extra_model_paths.yaml, against ComfyUI's own reading of it."""
    (tmp_path / "extra_model_paths.yaml").write_text(
        f"first:\n  base_path: {tmp_path}/shared\n  clip: |\n    clip\n    more/text\n"
        "  pulid: weights/pulid\n  unet: unet\n"
        f"second:\n  is_default: true\n  facexlib: relative\n  vae: {tmp_path}/vae\n  pulid: best\n"
        "third:\n  clip_vision: ../seen/./here\n",
        encoding="utf-8",
    )
    own = ("pulid", "facexlib", "insightface")
    names = {
        name: (list(paths), set(suffixes))
        for name, (paths, suffixes) in folder_paths.folder_names_and_paths.items()
        if name not in own
    }
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", names)
    utils.extra_config.load_extra_path_config(str(tmp_path / "extra_model_paths.yaml"))
    model_files.register_folders()
    folders = FoldersOnDisk(
        Path(folder_paths.models_dir), extra_folders(tmp_path / "extra_model_paths.yaml")
    )
    for name in ("clip_vision", "text_encoders", "diffusion_models", "vae", *own):
        assert folders.roots(name) == model_files.FOLDERS.roots(name), name


def test_face_packs_plain_and_in_the_zips_nested_folder(folders):
    mine, shared = folders
    assert model_files.face_model_choices() == ["antelopev2"]
    with pytest.raises(MissingFilesError, match=r"antelopev2\.zip") as missing:
        model_files.find_face_model("antelopev2")
    assert "models scrfd_10g_bnkps.onnx glintr100.onnx" in missing.value.command  # not all of PuLID
    nested = shared / "insightface/models/antelopev2/antelopev2"
    touch(nested / "scrfd_10g_bnkps.onnx")
    touch(nested / "glintr100.onnx")
    assert model_files.find_face_model("antelopev2") == nested
    plain = touch(mine / "insightface/models/buffalo_l/det_10g.onnx")
    assert model_files.find_face_model("buffalo_l") == plain.parent
    assert model_files.face_model_choices() == ["antelopev2", "buffalo_l"]


def astronaut_image():
    return torch.from_numpy(skimage.data.astronaut().astype(np.float32) / 255).unsqueeze(0)


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
    encoded = pulid.encode(astronaut_image())
    assert encoded.tokens.dtype == torch.float32
    assert encoder <= seen
    assert {patcher.load_device for patcher in pulid.get_models()} == {
        comfy.model_management.text_encoder_device()
    }
    assert not encoder & loaded_kinds()
    assert {type(patcher.model).__name__ for patcher in pulid.get_models()} == encoder


def test_another_face_recogniser_is_told_where_it_encodes_and_judges_all_the_same(
    stage, world, model, monkeypatch
):
    """Told apart by its hash: the stage's, too, is the glintr100.onnx of a pack called antelopev2."""
    paths = replace(world.load_pulid().paths, face_model=stage / "insightface/models/antelopev2")
    monkeypatch.setattr(Pulid, "_encode", lambda *_: identity())
    photo, choice = astronaut_image(), ("largest", 0, "concat", "", "error")

    def told(reference):
        """By Encode and by Apply."""
        encode = PulidEncodeIdentity.execute(pulid, photo, *choice)
        applied = execute(
            PulidApplyFlux,
            model=model, pulid=pulid, reference=reference, weight=1.0, start_at=0.0, end_at=1.0,
        )  # fmt: skip
        return [ANOTHER in output.ui["text"][0] for output in (encode, applied)]

    pulid = Pulid(paths)
    assert told(photo) == [True, True]
    assert told(identity()) == [True, False]
    judged = PulidFaceSimilarity.execute(pulid, photo, photo)
    assert judged.result[0] == pytest.approx(1)
    assert ANOTHER not in judged.ui["text"][0]

    pulid = Pulid(paths)
    monkeypatch.setattr(pulid.hashes, "sha256", lambda _: FACE_RECOGNISER.sha256)
    assert told(photo) == [False, False]


@pytest.mark.parametrize("looks", [0, 1])
def test_comparing_stops_when_the_user_cancels(monkeypatch, tmp_path, looks):
    """At the next look at the picture at hand, or after it; not after the whole batch."""
    compared = []

    def compare(photo, person, faces, on_look):
        comfy.model_management.interrupt_current_processing()
        for _ in range(looks):
            on_look()
        compared.append(photo)

    monkeypatch.setattr(face_similarity, "compare", compare)
    monkeypatch.setattr(Pulid, "faces", SimpleNamespace(name="antelopev2"))
    monkeypatch.setattr(face_similarity, "_arcface_embeddings", lambda *_: torch.ones(1, 512))
    pulid = World(tmp_path).load_pulid()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        PulidFaceSimilarity.execute(pulid, torch.zeros(3, 64, 64, 3), None)
    assert len(compared) == 1 - looks


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
