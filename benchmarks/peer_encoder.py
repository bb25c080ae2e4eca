"""The encoder side of PuLID assembled from packages on PyPI, for comparison with ours.

insightface finds and embeds the face, facexlib aligns and parses it, consisid-eva-clip is the vision
tower, diffusers' ConsisID extractor is the IDFormer. Nothing here uses this pack.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torchvision.transforms.functional import InterpolationMode, normalize, resize

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the peers warn about optional packages on import
    from consisid_eva_clip.factory import create_model
    from diffusers.models.transformers.consisid_transformer_3d import LocalFacialExtractor
    from facexlib.parsing.bisenet import BiSeNet
    from facexlib.utils.face_restoration_helper import FaceRestoreHelper
    from insightface.app import FaceAnalysis

FFHQ_TEMPLATE = np.array(
    [
        [192.98138, 239.94708],
        [318.90277, 240.1936],
        [256.63416, 314.01935],
        [201.26117, 371.41043],
        [313.08905, 371.15118],
    ]
)
BACKGROUND = (0, 7, 8, 9, 14, 15, 16, 18)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass
class PeerResult:
    """What the peers made of one photo, step by step."""

    embedding: np.ndarray
    """ArcFace, (512,)."""
    crop: np.ndarray
    """Aligned, (512, 512, 3) uint8 RGB."""
    seen: Tensor
    """What the vision tower sees before normalisation, (1, 3, 336, 336)."""
    tokens: Tensor
    """(1, 32, 2048)."""


class PeerEncoder:
    """All peers with the weights of one ComfyUI models folder, float32."""

    def __init__(self, models: Path):
        self.faces = FaceAnalysis(
            name=str(models / "insightface/models/antelopev2"),
            allowed_modules=["detection", "recognition"],
            providers=["CPUExecutionProvider"],
        )
        self.faces.prepare(ctx_id=0, det_thresh=0.5, det_size=(640, 640))

        self.parser = BiSeNet(num_class=19).eval()
        path = models / "facexlib/parsing_bisenet.pth"
        self.parser.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.tower = create_model("EVA02-CLIP-L-14-336", "", force_custom_clip=True).visual
        path = models / "clip_vision/EVA02_CLIP_L_336_psz14_s6B.pt"
        clip = torch.load(path, weights_only=True, map_location="cpu")
        visual = {k[7:]: v.float() for k, v in clip.items() if k.startswith("visual.")}
        self.tower.load_state_dict(visual)
        self.tower.eval()

        self.idformer = LocalFacialExtractor(
            id_dim=1280, vit_dim=1024, depth=10, dim_head=64, heads=16, num_id_token=5,
            num_queries=32, output_dim=2048, ff_mult=4,
        ).eval()  # fmt: skip
        pulid = load_file(models / "pulid/pulid_flux_v0.9.1.safetensors")
        prefix = "pulid_encoder."
        self.idformer.load_state_dict(
            {k.removeprefix(prefix): v.float() for k, v in pulid.items() if k.startswith(prefix)}
        )

    @torch.inference_mode()
    def encode(self, photo: np.ndarray) -> PeerResult:
        """Encode the largest face of an RGB photo, (H, W, 3) uint8, long side at most 1024."""
        bgr = np.ascontiguousarray(photo[..., ::-1])
        faces = self.faces.get(bgr)
        face = max(faces, key=lambda f: (f.bbox[2] - f.bbox[0]) * (f.bbox[3] - f.bbox[1]))
        crop = self.align(bgr, face.kps)[..., ::-1].copy()

        aligned = torch.from_numpy(crop).permute(2, 0, 1).unsqueeze(0).float() / 255
        labels = self.parser(normalize(aligned, IMAGENET_MEAN, IMAGENET_STD))[0].argmax(1, True)
        background = sum(labels == label for label in BACKGROUND).bool()
        gray = 0.299 * aligned[:, 0:1] + 0.587 * aligned[:, 1:2] + 0.114 * aligned[:, 2:3]
        masked = torch.where(background, torch.ones(()), gray.repeat(1, 3, 1, 1))

        seen = resize(masked, [336, 336], InterpolationMode.BICUBIC)
        pooled, states = self.tower(
            normalize(seen, CLIP_MEAN, CLIP_STD),
            return_all_features=False,
            return_hidden=True,
            shuffle=False,
        )
        pooled = pooled / pooled.norm(dim=-1, keepdim=True)
        condition = torch.cat((torch.from_numpy(face.embedding)[None], pooled), dim=-1)
        return PeerResult(face.embedding, crop, seen, self.idformer(condition, list(states)))

    @torch.inference_mode()
    def nobody(self) -> Tensor:
        """Tokens of zeros, (1, 32, 2048)."""
        return self.idformer(torch.zeros(1, 1280), [torch.zeros(1, 577, 1024)] * 5)

    @staticmethod
    def align(bgr: np.ndarray, key_points: np.ndarray) -> np.ndarray:
        """facexlib's aligned crop for given key points, (512, 512, 3) BGR."""
        helper = FaceRestoreHelper.__new__(FaceRestoreHelper)  # its constructor downloads detectors
        helper.pad_blur, helper.face_size, helper.input_img = False, (512, 512), bgr
        helper.face_template = FFHQ_TEMPLATE
        helper.all_landmarks_5, helper.affine_matrices, helper.cropped_faces = [key_points], [], []
        helper.align_warp_face()
        return helper.cropped_faces[0]
