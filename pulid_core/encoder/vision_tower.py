"""The EVA02-CLIP-L-14-336 vision tower, through timm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checkpoint import load_strict, read_state_dict
from ..errors import CheckpointError, importing

TOWER = "eva02_large_patch14_clip_336"
INPUT_SIZE_PX = 336
POOLED_SIZE = 768
HIDDEN_STATE_BLOCKS = (3, 7, 11, 15, 19)
"""Blocks whose outputs PuLID reads. eva_clip collects the inputs of blocks 4, 8, 12, 16, 20."""

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

OTHER_TOWER_KEYS = ("text.", "logit_scale")
"""What the whole CLIP checkpoint holds besides its vision tower."""


def to_input_size(faces: Tensor) -> Tensor:
    """Bring crops to what the tower sees: (B, 3, H, W) -> (B, 3, 336, 336).

    A bicubic filter, as torchvision's resize, which the reference calls; nearest is 25 dB away.
    """
    size = (INPUT_SIZE_PX, INPUT_SIZE_PX)
    return F.interpolate(faces, size, mode="bicubic", antialias=True)


class VisionTower(nn.Module):
    """Reads a masked face: five hidden states and one pooled vector."""

    def __init__(self, trunk: Any):
        super().__init__()
        self.trunk = trunk

    def forward(
        self, faces: Tensor, on_block: Callable[[], None] = lambda: None
    ) -> tuple[list[Tensor], Tensor]:
        """Encode masked crops.

        Args:
            faces: (B, 3, H, W) in [0, 1]; brought to 336 px by `to_input_size`.
            on_block: Called before each of the 24 blocks; may raise to stop.

        Returns:
            Five hidden states (B, 577, 1024), class token first, without the final norm; and the
            pooled vector (B, 768), L2-normalised.
        """
        if faces.shape[2:] != (INPUT_SIZE_PX, INPUT_SIZE_PX):
            faces = to_input_size(faces)
        mean = faces.new_tensor(MEAN).view(1, 3, 1, 1)
        std = faces.new_tensor(STD).view(1, 3, 1, 1)
        hooks = [b.register_forward_pre_hook(lambda *_: on_block()) for b in self.trunk.blocks]
        try:
            features, states = self.trunk.forward_intermediates(
                (faces - mean) / std,
                indices=list(HIDDEN_STATE_BLOCKS),
                return_prefix_tokens=True,
                output_fmt="NLC",
                norm=False,
            )
        finally:
            for hook in hooks:
                hook.remove()
        hidden_states = [torch.cat((prefix, spatial), dim=1) for spatial, prefix in states]
        return hidden_states, F.normalize(self.trunk.forward_head(features), dim=-1)


def load_vision_tower(path: str | Path) -> VisionTower:
    """Load EVA02-CLIP-L-14-336 in the original layout (.pt) or in timm's, float32.

    Raises:
        CheckpointError: The file is damaged or holds another model.
        MissingDependencyError: timm is not installed, or cannot be imported.
    """
    with importing("timm", "PuLID's vision tower"):
        import timm
        from timm.models.eva import checkpoint_filter_fn

    state_dict = read_state_dict(path)
    weights = {k: v for k, v in state_dict.items() if not k.startswith(OTHER_TOWER_KEYS)}
    if not any(key.endswith("blocks.0.attn.q_proj.weight") for key in weights):
        raise CheckpointError(
            path,
            "EVA02-CLIP-L-14-336 was expected, but the file holds another model. "
            "Download EVA02_CLIP_L_336_psz14_s6B.pt.",
        )

    with torch.device("meta"):
        trunk: Any = timm.create_model(TOWER, pretrained=False, num_classes=POOLED_SIZE)
    load_strict(lambda _: trunk, checkpoint_filter_fn(weights, trunk), path)
    trunk.rope.to_empty(device="cpu")  # positions are computed, not stored
    trunk.rope.init_non_persistent_buffers()
    return VisionTower(trunk.float())
