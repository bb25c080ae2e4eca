"""The whole encode at full size against a straight assembly of PyPI peers, and its own promises."""

import copy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pulid_pack.benchmarks.peer_encoder import PeerEncoder
from pulid_pack.pulid_core.encoder.encode import encode_identity, step_count
from pulid_pack.pulid_core.encoder.fusion import FUSIONS
from pulid_pack.pulid_core.errors import NoFaceError, PulidError
from pulid_pack.pulid_core.face.portrait import EncodeSettings
from pulid_pack.pulid_core.face.report import report_text
from pulid_pack.pulid_core.identity.file import load_identity, save_identity
from pulid_pack.pulid_core.images import photo_from_file
from pulid_pack.pulid_core.result_cache import ResultCache
from pulid_pack.tests.people import photos_of

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]

HALF_BOUNDS = {torch.float16: 0.005, torch.bfloat16: 0.03}
"""Norm of the difference over the norm of the float32 tokens."""


@pytest.fixture(scope="module")
def peer(stage):
    return PeerEncoder(stage)


@pytest.fixture(scope="module")
def encoded(loaded_stages, astronaut):
    """The demo photo at full size, float32."""
    return encode_identity(photos_of(astronaut), loaded_stages)


@pytest.fixture(scope="module")
def no_face() -> np.ndarray:
    return np.full((64, 64, 3), 128, np.uint8)


def test_parity_with_the_peers(encoded, peer, astronaut):
    """Vector, crop, what the tower sees, and tokens; the bound is 1e-4 of the tokens' range."""
    theirs = peer.encode(astronaut)
    assert np.abs(encoded.arcface_embeddings[0].numpy() - theirs.embedding).max() < 1e-5
    seen = encoded.crops[0, :, 336:].permute(2, 0, 1)
    assert (seen - theirs.seen[0].clamp(0, 1)).abs().max() < 1e-5
    span = theirs.tokens.max() - theirs.tokens.min()
    assert (encoded.tokens - theirs.tokens).abs().max() / span < 1e-4


def test_nobody_is_the_idformer_of_zeros(encoded, peer):
    nobody = peer.nobody()
    assert (encoded.uncond_tokens - nobody).abs().max() < 1e-4 * nobody.abs().max()
    assert nobody.abs().max() > 0.1


@pytest.mark.parametrize("dtype", HALF_BOUNDS, ids=str)
def test_half_precision_stays_within_bounds(loaded_stages, encoded, astronaut, dtype):
    """Vision tower and IDFormer in 16 bits: no NaN, and a difference that is stated."""
    half = replace(
        loaded_stages,
        vision=copy.deepcopy(loaded_stages.vision).to(dtype),
        encoder=copy.deepcopy(loaded_stages.encoder).to(dtype),
        dtype=dtype,
        recall=ResultCache(2**28),
    )
    identity = encode_identity(photos_of(astronaut), half)
    assert identity.tokens.dtype == torch.float32
    for name in ("tokens", "uncond_tokens"):
        tokens, exact = getattr(identity, name), getattr(encoded, name)
        assert tokens.isfinite().all()
        assert 0 < (tokens - exact).norm() / exact.norm() < HALF_BOUNDS[dtype]


def test_rounding_for_the_socket_stays_below_one_in_2000(encoded):
    rounded = encoded.rounded()
    relative = (rounded.tokens - encoded.tokens).abs() / encoded.tokens.abs().clamp_min(1e-3)
    assert 0 < relative.max() <= 2**-11


def test_the_same_photo_never_runs_a_network_twice(tiny_stages, astronaut):
    """Any node, batch, fusion or weights; another face or photo runs them."""
    no_face = np.full((64, 64, 3), 128, np.uint8)
    half = np.ascontiguousarray(astronaut[::2, ::2])
    calls = {"parser": 0, "encoder": 0, "detector": 0}

    def count(name):
        def hook(*_):
            calls[name] += 1

        return hook

    tiny_stages.parser.register_forward_pre_hook(count("parser"))
    tiny_stages.encoder.register_forward_pre_hook(count("encoder"))
    encode_identity(photos_of(astronaut), tiny_stages)
    assert (tiny_stages.vision.passes, calls["parser"], calls["encoder"]) == (1, 1, 1)
    first = encode_identity(photos_of(astronaut, half), tiny_stages)
    assert (tiny_stages.vision.passes, calls["parser"], calls["encoder"]) == (2, 2, 2)
    for fusion in ("concat", "mean"):
        for weights in ((), (1.0, 0.5), (0.0, 1.0)):
            settings = EncodeSettings(fusion=fusion, photo_weights=weights)
            encode_identity(photos_of(astronaut, half), tiny_stages, settings)
    encode_identity(photos_of(astronaut), tiny_stages, EncodeSettings("center"))
    assert (tiny_stages.vision.passes, calls["parser"], calls["encoder"]) == (2, 2, 2)
    encode_identity(photos_of(astronaut, half), tiny_stages, EncodeSettings(fusion="native"))
    assert (tiny_stages.vision.passes, calls["parser"], calls["encoder"]) == (2, 2, 3)
    again = encode_identity(photos_of(astronaut, half), tiny_stages)
    assert torch.equal(again.tokens, first.tokens)
    with pytest.raises(NoFaceError):
        encode_identity(photos_of(no_face), tiny_stages)
    assert tiny_stages.vision.passes == 2


@pytest.mark.parametrize("fusion", FUSIONS)
def test_tokens_of_several_photos(tiny_stages, astronaut, fusion):
    half = np.ascontiguousarray(astronaut[::2, ::2])
    identity = encode_identity(
        photos_of(astronaut, half), tiny_stages, EncodeSettings(fusion=fusion)
    )
    queries = 8 * (2 if fusion == "concat" else 1)
    assert identity.tokens.shape == (1, queries, 32)
    assert identity.uncond_tokens.shape == (1, 8, 32)
    assert identity.arcface_embeddings.shape == (2, 512)
    assert identity.crops.shape == (2, 336, 672, 3)
    assert 0 <= identity.crops.min() <= identity.crops.max() <= 1
    assert identity.provenance.fusion == fusion


def test_fusions_at_full_size(loaded_stages, astronaut):
    """Concat is 64 tokens, mean their mean, native 32 tokens of its own."""
    stages = loaded_stages
    half = np.ascontiguousarray(astronaut[::2, ::2])
    native = encode_identity(photos_of(astronaut, half), stages, EncodeSettings(fusion="native"))
    assert native.tokens.shape == (1, 32, 2048)
    concat = encode_identity(photos_of(astronaut, half), stages)
    assert concat.tokens.shape == (1, 64, 2048)
    assert not torch.allclose(native.tokens, concat.tokens[:, :32], atol=1e-2)
    mean = encode_identity(photos_of(astronaut, half), stages, EncodeSettings(fusion="mean"))
    assert torch.allclose(mean.tokens, concat.tokens.unflatten(1, (2, 32)).mean(dim=1), atol=1e-5)


def test_a_photo_without_a_face_is_an_error_that_names_it(tiny_stages, astronaut, no_face):
    """Raised before any network runs."""
    with pytest.raises(NoFaceError, match="image 2 of 3"):
        encode_identity(photos_of(astronaut, no_face, astronaut), tiny_stages)
    assert tiny_stages.vision.passes == 0


def test_or_is_skipped_with_a_line_in_the_report(tiny_stages, astronaut, no_face):
    skip = EncodeSettings(skip_missing=True)
    identity = encode_identity(photos_of(no_face, astronaut), tiny_stages, skip)
    alone = encode_identity(photos_of(astronaut), tiny_stages)
    assert torch.equal(identity.tokens, alone.tokens)
    text = report_text(identity.photos)
    assert "Image 1 of 2, 64 x 64 px: skipped" in text
    assert "Image 2 of 2, 512 x 512 px: 1 face, took 0 in the order largest" in text
    with pytest.raises(PulidError, match="all 2 were skipped"):
        encode_identity(photos_of(no_face, no_face), tiny_stages, skip)


def test_skipping_keeps_weights_with_their_photos(tiny_stages, astronaut, no_face):
    half = np.ascontiguousarray(astronaut[::2, ::2])
    skip = EncodeSettings(skip_missing=True, photo_weights=(9.0, 1.0, 2.0))
    identity = encode_identity(photos_of(no_face, astronaut, half), tiny_stages, skip)
    weighted = EncodeSettings(photo_weights=(1.0, 2.0))
    expected = encode_identity(photos_of(astronaut, half), tiny_stages, weighted)
    assert torch.equal(identity.tokens, expected.tokens)
    assert identity.provenance.photo_weights == (1.0, 2.0)


def test_a_photo_of_weight_zero_is_not_looked_at(tiny_stages, astronaut, no_face):
    """Not even for faces."""
    settings = EncodeSettings(photo_weights=(1.0, 0.0))
    identity = encode_identity(photos_of(astronaut, no_face), tiny_stages, settings)
    assert torch.equal(identity.tokens, encode_identity(photos_of(astronaut), tiny_stages).tokens)
    assert "its weight is 0" in report_text(identity.photos)


def test_encoding_can_be_stopped_within_a_photo(tiny_stages, astronaut):
    steps = []

    def stop_at_three(done=1):
        steps.append(done)
        if len(steps) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_identity(photos_of(astronaut), tiny_stages, on_step=stop_at_three)
    encode_identity(photos_of(astronaut), tiny_stages)


def test_progress_reaches_its_end(stages, astronaut):
    steps = []
    encode_identity(photos_of(astronaut), stages, on_step=lambda done=1: steps.append(done))
    assert sum(steps) == step_count(1)


def test_saved_tokens_are_those_of_the_socket(encoded, tmp_path, loaded_stages):
    """What ComfyUI's nodes hand around is bit for bit what a file holds, provenance included."""
    path = save_identity(encoded, tmp_path / "a.safetensors")
    loaded = load_identity(path)
    assert torch.equal(loaded.tokens, encoded.rounded().tokens)
    assert torch.equal(loaded.uncond_tokens, encoded.rounded().uncond_tokens)
    loaded.require(loaded_stages.checkpoint)


def test_the_pages_example_runs_as_it_stands(stage, tmp_path, astronaut, encoded):
    """In a fresh interpreter that only knows the repository's folder, with a photo on its side."""
    photo, target = tmp_path / "photo.png", tmp_path / "person.safetensors"
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90 degrees to the right
    turned = Image.fromarray(astronaut).transpose(Image.Transpose.ROTATE_90)
    turned.save(photo, exif=exif)
    assert np.array_equal(photo_from_file(photo).pixels, astronaut)
    script = ROOT / "tests/identity/python_example.py"
    code = script.read_text(encoding="utf-8").split('"""\n\n', 1)[1]
    assert code in (ROOT / "docs/python.md").read_text(encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script), str(stage), str(photo), str(target)],
        capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "took 0 in the order largest" in done.stdout
    # Another number of threads sums in another order, which moves some values by a step of float16.
    made = load_identity(target).tokens
    torch.testing.assert_close(made, encoded.rounded().tokens, rtol=1e-3, atol=2e-3)
