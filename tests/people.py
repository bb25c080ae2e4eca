"""People, photos, detectors and small networks for the tests of identities."""

import copy
from dataclasses import replace

import numpy as np
import torch
from pulid_pack.pulid_core.encoder.idformer import IDFormer, IDFormerSizes
from pulid_pack.pulid_core.face.analyser import FaceAnalyser
from pulid_pack.pulid_core.face.portrait import EncodeSettings, choose_portraits
from pulid_pack.pulid_core.identity.file import KnownCheckpoint
from pulid_pack.pulid_core.identity.identity import Identity, Provenance
from pulid_pack.pulid_core.images import Photo, Pixels
from pulid_pack.pulid_core.result_cache import ResultCache
from torch import Tensor, nn

T1_CENTRES = {
    "A": (115, 331),
    "B": (323, 206),
    "C": (518, 346),
    "D": (798, 410),
    "E": (953, 132),
    "F": (1178, 330),
}
"""Six people on InsightFace's t1.jpg (1280 x 886), from left to right: about the middle of each face, as
read from the picture by eye."""


class ScriptedDetector:
    """SCRFD by signature, that finds what a function says it finds."""

    def __init__(self, detect):
        self._detect = detect
        self.calls = 0

    def detect(self, bgr: Pixels):
        """Boxes with scores (n, 5), and key points (n, 5, 2)."""
        self.calls += 1
        faces = self._detect(bgr)
        boxes = np.array([(*box, score) for box, _, score in faces], np.float32).reshape(-1, 5)
        points = np.array([points for _, points, _ in faces], np.float32).reshape(-1, 5, 2)
        return boxes, points


def scripted(analyser: FaceAnalyser, detect) -> FaceAnalyser:
    """The analyser with another detector: `detect` maps a BGR photo to (box, points, score)s."""
    analyser = copy.copy(analyser)
    analyser._detector = ScriptedDetector(detect)
    analyser.recall = ResultCache(2**20)
    return analyser


def photos_of(*pictures: Pixels) -> list[Photo]:
    """Pictures as the photos of one batch."""
    return [Photo(pixels, index, len(pictures)) for index, pixels in enumerate(pictures)]


def to_image(*photos: Pixels) -> Tensor:
    """ComfyUI's IMAGE: (B, H, W, 3) in [0, 1]."""
    return torch.from_numpy(np.stack(photos)).float() / 255


class TinyVision(nn.Module):
    """The vision tower by signature: five hidden states and a pooled vector of 4 x 4 patches."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 84, stride=84)
        self.pooled = nn.Linear(16, 768)
        self.passes = 0

    def forward(self, faces: Tensor, on_block=lambda: None):
        self.passes += 1
        on_block()
        tokens = self.patches(faces).flatten(2).transpose(1, 2)  # (B, 16, 16)
        return [tokens * scale for scale in range(1, 6)], self.pooled(tokens.mean(dim=1))


def tiny_encoder() -> IDFormer:
    """The IDFormer, narrow: 8 queries, output 32."""
    sizes = IDFormerSizes(
        condition_dim=1280, dim=16, inner_dim=64, id_tokens=5, queries=8, output_dim=32,
        feed_forward_dim=32, layers=10, scales=5,
    )  # fmt: skip
    encoder = IDFormer(sizes)
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.2)
    return encoder.requires_grad_(False).eval()


def make_identity(
    photos: int = 1, copies: int = 1, seed: int = 0, checkpoint: str = "a", **changes
) -> Identity:
    """An identity made by hand, tokens rounded as ComfyUI's sockets carry them."""
    generator = torch.Generator().manual_seed(seed)
    identity = Identity(
        tokens=torch.randn(1, 32 * copies, 2048, generator=generator),
        uncond_tokens=torch.randn(1, 32, 2048, generator=torch.Generator().manual_seed(9)),
        arcface_embeddings=torch.randn(photos, 512, generator=generator),
        crops=torch.rand(photos, 336, 672, 3, generator=generator),
        provenance=Provenance(
            KnownCheckpoint(f"{checkpoint}.safetensors", checkpoint * 64),
            "antelopev2",
            "concat",
            (1.0,) * photos,
        ),
    )
    return replace(identity, **changes).rounded()


def take(pixels, analyser, order="largest", index=0):
    """Portrait and report of one photo."""
    (portrait,), (report,) = choose_portraits(
        [Photo(pixels)], analyser, EncodeSettings(order, index)
    )
    return portrait, report
