"""Every stage at full size against the peers from PyPI, float32, random weights.

The bound of each comparison is 1e-4 of the range of the peer's values.
"""

import warnings

import cv2
import numpy as np
import pytest
import torch
from pulid_pack.devtools import tiny_shapes, tiny_stage
from pulid_pack.pulid_core.encoder.face_parser import (
    BACKGROUND_LABELS,
    load_face_parser,
    mask_background,
)
from pulid_pack.pulid_core.encoder.idformer import IDFormer
from pulid_pack.pulid_core.encoder.vision_tower import load_vision_tower
from pulid_pack.pulid_core.face.alignment import align
from pulid_pack.pulid_core.pulid_file import PulidFile
from torch import Tensor
from torchvision.transforms.functional import InterpolationMode, normalize, resize

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the peers warn about optional packages on import
    from consisid_eva_clip.factory import create_model
    from diffusers.models.transformers.consisid_transformer_3d import LocalFacialExtractor
    from facexlib.parsing.bisenet import BiSeNet
    from facexlib.utils.face_restoration_helper import FaceRestoreHelper

RELATIVE_BOUND = 1e-4


def assert_parity(ours: Tensor, peer: Tensor) -> None:
    """The largest difference stays below the bound, relative to the peer's range of values."""
    assert ours.shape == peer.shape
    difference = (ours - peer).abs().max() / (peer.max() - peer.min())
    assert difference < RELATIVE_BOUND, f"differs by {difference:.2e} of the range"


@pytest.fixture(scope="module")
def faces() -> Tensor:
    return torch.rand(1, 3, 512, 512, generator=torch.Generator().manual_seed(3))


@pytest.mark.slow
@torch.inference_mode()
def test_vision_tower(stage, faces):
    """Five hidden states and the pooled vector of the original EVA02-CLIP tower."""
    path = stage / "clip_vision/EVA02_CLIP_L_336_psz14_s6B.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = create_model("EVA02-CLIP-L-14-336", "", force_custom_clip=True).visual.eval()
    weights = torch.load(path, weights_only=True, map_location="cpu")
    visual = {k.removeprefix("visual."): v for k, v in weights.items() if k.startswith("visual.")}
    peer.load_state_dict({name: value.float() for name, value in visual.items()})

    small = resize(faces, [336, 336], InterpolationMode.BICUBIC)
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    pooled, states = peer(
        normalize(small, mean, std), return_all_features=False, return_hidden=True, shuffle=False
    )
    ours_states, ours_pooled = load_vision_tower(path)(faces)
    assert_parity(ours_pooled, pooled / pooled.norm(dim=-1, keepdim=True))
    assert len(ours_states) == len(states) == 5
    for ours, state in zip(ours_states, states, strict=True):
        assert_parity(ours, state)


@pytest.mark.slow
@torch.inference_mode()
def test_idformer(stage):
    """Identity tokens, and those of nobody, which are not zero."""
    file = PulidFile.open(stage / "pulid/pulid_flux_v0.9.1.safetensors")
    ours: IDFormer = file.load_encoder().float()
    peer = LocalFacialExtractor(
        id_dim=1280, vit_dim=1024, depth=10, dim_head=64, heads=16, num_id_token=5,
        num_queries=32, output_dim=2048, ff_mult=4,
    )  # fmt: skip
    peer.load_state_dict(ours.state_dict())
    generator = torch.Generator().manual_seed(4)
    condition = torch.randn(2, 1280, generator=generator)
    hidden = [torch.randn(2, 577, 1024, generator=generator) for _ in range(5)]
    assert_parity(ours(condition, hidden), peer(condition, hidden))

    zeros = peer(torch.zeros(1, 1280), [torch.zeros(1, 577, 1024)] * 5)
    assert_parity(ours.unconditional(condition), zeros)
    assert zeros.abs().max() > 0


@pytest.mark.slow
@torch.inference_mode()
def test_idformer_takes_several_photos(stage):
    """The native path: n conditions give 5n identity tokens, one photo given twice as (1, 1, D)."""
    ours = PulidFile.open(stage / "pulid/pulid_flux_v0.9.1.safetensors").load_encoder().float()
    condition, hidden = torch.randn(1, 1280), [torch.randn(1, 577, 1024) for _ in range(5)]
    assert torch.equal(ours(condition, hidden), ours(condition.unsqueeze(1), hidden))
    twice = ours(condition.expand(2, -1).unsqueeze(0), [torch.cat((h, h), 1) for h in hidden])
    assert twice.shape == (1, 32, 2048)


@torch.inference_mode()
def test_face_parser(tmp_path, faces):
    """The same label for every pixel, but for ties that differ in the last bit."""
    weights = tiny_stage.random_weights(tiny_shapes.bisenet_shapes(), torch.float32)
    weights["conv_out.conv_out.weight"] -= weights["conv_out.conv_out.weight"].mean(1, keepdim=True)
    path = tmp_path / "random.pth"
    torch.save(weights, path)  # the stage's own parser sees an oval, whatever the picture
    peer = BiSeNet(num_class=19).eval()
    peer.load_state_dict(torch.load(path, weights_only=True))
    scores = peer(normalize(faces, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))[0]
    labels = load_face_parser(path)(faces)
    assert labels.unique().numel() > 1
    chosen = scores.gather(1, labels.unsqueeze(1)).squeeze(1)
    assert_parity(chosen, scores.max(dim=1).values)
    assert (labels == scores.argmax(dim=1)).float().mean() > 0.999


def test_masking():
    """Background labels turn white, everything else gray, hair (17) and glasses (6) stay."""
    faces = torch.rand(1, 3, 1, 19)
    masked = mask_background(faces, torch.arange(19).view(1, 1, 19))
    red, green, blue = faces[:, 0], faces[:, 1], faces[:, 2]
    gray = 0.299 * red + 0.587 * green + 0.114 * blue
    white = {0, 7, 8, 9, 14, 15, 16, 18}
    assert set(BACKGROUND_LABELS) == white
    for label in range(19):
        expected = torch.ones(3) if label in white else gray[0, 0, label].expand(3)
        torch.testing.assert_close(masked[0, :, 0, label], expected)


def test_alignment():
    """The crop of facexlib's helper, pixel for pixel, with the same key points."""
    photo = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    photo = cv2.GaussianBlur(photo, (0, 0), 3)
    key_points = np.array([(150, 120), (215, 128), (180, 165), (152, 195), (205, 201)], np.float32)
    helper = FaceRestoreHelper.__new__(FaceRestoreHelper)  # its constructor downloads detectors
    helper.pad_blur, helper.face_size, helper.input_img = False, (512, 512), photo[..., ::-1]
    helper.face_template = np.array(
        [[192.98138, 239.94708], [318.90277, 240.1936], [256.63416, 314.01935],
         [201.26117, 371.41043], [313.08905, 371.15118]]
    )  # fmt: skip
    helper.all_landmarks_5, helper.affine_matrices, helper.cropped_faces = [key_points], [], []
    helper.align_warp_face()
    assert np.array_equal(align(photo, key_points), helper.cropped_faces[0][..., ::-1])
