"""Model files are read as data, loaded strictly, and strangers are called by their name."""

import os
import pickle
from random import Random

import pytest
import torch
from pulid_pack.pulid_core.checkpoint import load_strict, read_shapes, read_state_dict
from pulid_pack.pulid_core.encoder.face_parser import load_face_parser
from pulid_pack.pulid_core.encoder.vision_tower import load_vision_tower
from pulid_pack.pulid_core.errors import CheckpointError
from pulid_pack.pulid_core.pulid_file import PulidFile
from safetensors.torch import save_file
from torch import nn

PULID = "pulid/pulid_flux_v0.9.1.safetensors"


class RunsCode:
    """Pickles to a call of os.mkdir."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_sizes_are_read_from_shapes(stage):
    file = PulidFile.open(stage / PULID)
    assert file.attention_sizes.count == 20
    assert file.attention_sizes.image_dim == 128
    assert file.attention_sizes.identity_dim == file.encoder_sizes.output_dim == 2048
    assert (file.encoder_sizes.layers, file.encoder_sizes.scales) == (10, 5)
    assert (file.encoder_sizes.id_tokens, file.encoder_sizes.queries) == (5, 32)


def test_weights_keep_the_dtype_of_the_file(stage):
    file = PulidFile.open(stage / PULID)
    stored = read_state_dict(stage / PULID)["pulid_encoder.proj_out"]
    assert file.load_encoder().proj_out.dtype == stored.dtype
    assert {p.dtype for p in file.load_attention(19).parameters()} == {stored.dtype}


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("id_adapter_attn_layers.0.id_to_k.weight", "PuLID checkpoint for SDXL"),
        ("double_blocks.0.img_attn.qkv.weight", "FLUX diffusion model"),
        ("visual.blocks.0.attn.q_proj.weight", "CLIP or EVA-CLIP"),
        ("double_ca.0.to_q.weight", "FLUX.2"),
        ("pulid_ca_double.0.to_q.weight", "FLUX.2"),
        ("id_former.latents", "FLUX.2"),
        ("something.else", "something.else"),
    ],
)
def test_strangers_are_refused_by_path_and_name(tmp_path, key, name):
    path = tmp_path / "pulid_flux_v0.9.1.safetensors"
    save_file({key: torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match=name) as raised:
        PulidFile.open(path)
    assert raised.value.path == path
    assert str(path) in str(raised.value)


def test_the_wrong_file_in_each_place(stage):
    with pytest.raises(CheckpointError, match="BiSeNet face parser"):
        PulidFile.open(stage / "facexlib/parsing_bisenet.pth")
    with pytest.raises(CheckpointError, match="EVA02_CLIP_L_336_psz14_s6B"):
        load_vision_tower(stage / PULID)
    with pytest.raises(CheckpointError, match="PuLID-FLUX checkpoint"):
        load_face_parser(stage / PULID)


def test_every_key_is_consumed(tmp_path):
    """One key too many, one too few, one of another shape: each an error that names it."""
    weights = nn.Linear(2, 3).state_dict()
    build = lambda ops: ops.Linear(2, 3)  # noqa: E731
    assert torch.equal(load_strict(build, weights, "x").weight, weights["weight"])
    with pytest.raises(CheckpointError, match=r"1 keys \('?extra.*unexpected"):
        load_strict(build, {**weights, "extra": torch.zeros(1)}, "x")
    with pytest.raises(CheckpointError, match=r"1 keys \('?bias.*missing"):
        load_strict(build, {"weight": weights["weight"]}, "x")
    with pytest.raises(CheckpointError, match=r"weight should have the shape \(3, 2\)"):
        load_strict(build, {**weights, "weight": torch.zeros(2, 3)}, "x")


def test_missing_attention_key_is_an_error(stage, tmp_path):
    weights = read_state_dict(stage / PULID)
    sizes = (
        "latents",
        "proj_out",
        "mapping.0.weight",
        "mapping.6.weight",
        "to_q.weight",
        "1.1.weight",
    )
    kept = {k: v for k, v in weights.items() if k.startswith("pulid_ca.") or k.endswith(sizes)}
    del kept["pulid_ca.7.to_out.weight"]
    path = tmp_path / "short.safetensors"
    save_file(kept, path)
    with pytest.raises(CheckpointError, match=r"1 keys \('?to_out\.weight.*missing"):
        PulidFile.open(path).load_attention(7)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("keep", [0, 1, 100, 20_000])
def test_truncated_files(stage, tmp_path, suffix, keep):
    source = stage / ("facexlib/parsing_bisenet.pth" if suffix == ".pth" else PULID)
    path = tmp_path / f"cut{suffix}"
    with source.open("rb") as file:
        path.write_bytes(file.read(keep))
    with pytest.raises(CheckpointError, match=r"damaged or not fully downloaded|not loaded"):
        read_shapes(path)


@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_code_in_a_pickle_never_runs(tmp_path, form):
    path, trace = tmp_path / "evil.pth", tmp_path / "code-ran"
    if form == "torch":
        torch.save({"weight": RunsCode(trace)}, path)
    else:
        path.write_bytes(pickle.dumps({"weight": RunsCode(trace)}, protocol=2))
    with pytest.raises(CheckpointError, match=r"not loaded|damaged"):
        read_state_dict(path)
    assert not trace.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("is_zip", [True, False])
def test_a_file_with_wrong_bytes_is_damaged_whatever_they_say(tmp_path, is_zip):
    """800 files with a few bytes changed where the pickle lies; PyTorch raises ten kinds of error."""
    path, random = tmp_path / "a.pth", Random(2)  # noqa: S311 - chooses bytes
    weights = {"a": torch.zeros(3, 4), "b": torch.zeros(5).half()}
    torch.save(weights, path, _use_new_zipfile_serialization=is_zip)
    sound = path.read_bytes()
    refused = 0
    for _ in range(400):
        damaged = bytearray(sound)
        for _ in range(random.randint(1, 4)):
            damaged[random.randrange(60, 500)] = random.randrange(256)
        path.write_bytes(damaged)
        try:
            read_state_dict(path)
        except CheckpointError:
            refused += 1
    assert refused > 300


def test_a_file_without_tensors(tmp_path):
    path = tmp_path / "list.pth"
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="no state dict"):
        read_state_dict(path)


@pytest.mark.parametrize("key", [7, ("a", 1), None])
def test_keys_that_are_no_names_make_no_state_dict(tmp_path, key):
    path = tmp_path / "keys.pth"
    torch.save({key: torch.zeros(2)}, path)
    for read in (read_state_dict, read_shapes):
        with pytest.raises(CheckpointError, match="no state dict"):
            read(path)


def test_a_strangers_keys_are_quoted_briefly_and_without_control_characters(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"\x1b[2J" * 10_000: torch.zeros(1)}, path)
    with pytest.raises(CheckpointError) as caught:
        PulidFile.open(path)
    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()


@pytest.mark.slow
def test_wrapped_state_dicts_and_timms_layout(stage, tmp_path):
    """EVA-CLIP as users have it: the original file, or timm's keys in safetensors."""
    original = load_vision_tower(stage / "clip_vision/EVA02_CLIP_L_336_psz14_s6B.pt")
    path = tmp_path / "model.safetensors"
    save_file(original.trunk.state_dict(), path)
    again = load_vision_tower(path)
    for name, value in original.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name

    torch.save({"state_dict": {"weight": torch.ones(1)}}, tmp_path / "wrapped.pth")
    assert read_state_dict(tmp_path / "wrapped.pth").keys() == {"weight"}
