"""Photos -> Identity: the whole encoder side, and what it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .encoder import IDFormer
from .faces import FaceAnalyser, align, choose_face
from .images import Photo, bchw_to_bhwc, photo_to_bchw
from .parsing import FaceParser, mask_background
from .vision import VisionTower

STEPS_PER_PHOTO = 4 + 24  # find, embed, parse, encode, and each block of the vision tower


@dataclass(frozen=True, eq=False)
class Identity:
    """One person, ready to be injected. All tensors are float32 on the CPU."""

    tokens: Tensor
    """What the cross attentions look at, (1, 32 * photos, 2048)."""
    uncond_tokens: Tensor
    """Nobody, for the negative pass of true CFG, (1, 32, 2048)."""
    arcface_embeddings: Tensor
    """Raw ArcFace vectors, (photos, 512)."""
    crops: Tensor
    """What the encoder saw: aligned colour crop beside the masked gray one, (photos, 512, 1024, 3)
    in [0, 1]."""


@dataclass(frozen=True, eq=False)
class EncoderStages:
    """The models between a photo and its identity; each runs where its weights are."""

    faces: FaceAnalyser
    parser: FaceParser
    vision: VisionTower
    encoder: IDFormer


def step_count(photos: int) -> int:
    """How often `encode_identity` calls `on_step` for this many photos."""
    return photos * STEPS_PER_PHOTO + 1


@torch.inference_mode()
def encode_identity(
    photos: list[Photo], stages: EncoderStages, on_step: Callable[[], None] = lambda: None
) -> Identity:
    """Encode one person from one or several photos.

    Each photo is encoded by itself, as PuLID was trained, and the tokens are put side by side, so
    that the image can look at each photo where it helps.

    Args:
        photos: At least one.
        stages: Loaded models.
        on_step: Called many times a second while working; may raise to stop.

    Returns:
        The identity.

    Raises:
        NoFaceError: A photo shows no face. It is raised before anything is encoded.
    """
    crops, embeddings = [], []
    for index, photo in enumerate(photos):
        on_step()
        face = choose_face(stages.faces.find(photo), index, len(photos))
        on_step()
        embeddings.append(torch.from_numpy(stages.faces.embed(photo, face)).float())
        crops.append(photo_to_bchw(align(photo, face.key_points)))
    arcface = torch.stack(embeddings)

    tokens, masked_crops = [], []
    for crop, embedding in zip(crops, arcface, strict=True):
        on_step()
        masked, photo_tokens = _encode_crop(crop, embedding, stages, on_step)
        masked_crops.append(masked)
        tokens.append(photo_tokens)
    on_step()
    uncond_tokens = stages.encoder.unconditional(tokens[0])
    return Identity(
        tokens=torch.cat(tokens, dim=1).cpu(),
        uncond_tokens=uncond_tokens.cpu(),
        arcface_embeddings=arcface,
        crops=bchw_to_bhwc(torch.cat((torch.cat(crops), torch.cat(masked_crops)), dim=3)),
    )


def _encode_crop(
    crop: Tensor, embedding: Tensor, stages: EncoderStages, on_step: Callable[[], None]
) -> tuple[Tensor, Tensor]:
    """Encode one aligned crop (1, 3, 512, 512) to the masked crop and (1, 32, 2048) tokens."""
    crop = crop.to(_device(stages.parser))
    masked = mask_background(crop, stages.parser(crop))
    hidden_states, pooled = stages.vision(masked.to(_device(stages.vision)), on_step)
    condition = torch.cat((embedding.to(pooled).unsqueeze(0), pooled), dim=1)  # (1, 1280)
    on_step()
    return masked.cpu(), stages.encoder(condition, hidden_states)


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device
