"""Photos -> Identity: the whole encoder side, and what it needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from ..face.analyser import FaceAnalyser
from ..face.devices import AUTO_PROVIDER
from ..face.portrait import (
    DEFAULT_SETTINGS,
    EncodeSettings,
    Portrait,
    Step,
    choose_portraits,
    go_on,
)
from ..identity.identity import Checkpoint, Identity, Provenance
from ..images import Photo, bchw_to_bhwc, photo_to_bchw
from ..pulid_file import PulidFile
from ..result_cache import ENCODED_BYTES, ResultCache
from .face_parser import FaceParser, load_face_parser, mask_background
from .fusion import FUSIONS, Look, check_weights
from .idformer import IDFormer
from .vision_tower import VisionTower, load_vision_tower, to_input_size

STEPS_PER_PHOTO = 3 + 24  # find, parse, encode, and each block of the vision tower


@dataclass(frozen=True, eq=False)
class EncoderStages:
    """The models between a photo and its identity; each runs where its weights are."""

    faces: FaceAnalyser
    parser: FaceParser
    vision: VisionTower
    encoder: IDFormer
    checkpoint: Checkpoint | None = None
    """The file of the IDFormer; without it the identity cannot be saved."""
    dtype: torch.dtype = torch.float32
    """What vision tower and IDFormer compute in; the parser stays in float32."""
    recall: ResultCache = field(default_factory=lambda: ResultCache(ENCODED_BYTES))
    """What was computed for earlier photos."""


def load_stages(
    pulid: str | Path,
    eva_clip: str | Path,
    face_parsing: str | Path,
    face_model: str | Path,
    provider: str = AUTO_PROVIDER,
) -> EncoderStages:
    """Load everything from photo to identity, float32 on the CPU, for use without ComfyUI.

    Args:
        pulid: pulid_flux_v0.9.1.safetensors.
        eva_clip: EVA02_CLIP_L_336_psz14_s6B.pt, or timm's file of the same weights.
        face_parsing: parsing_bisenet.pth.
        face_model: The unpacked InsightFace pack, antelopev2.
        provider: Of ONNX Runtime, for the face detector; "auto" is the CPU.

    Raises:
        CheckpointError: A file is missing, damaged, or another model.
        MissingDependencyError: insightface or timm is not installed.
    """
    file = PulidFile.open(pulid)
    return EncoderStages(
        FaceAnalyser(face_model, provider),
        load_face_parser(face_parsing),
        load_vision_tower(eva_clip),
        file.load_encoder().float(),
        file,
    )


def step_count(photos: int) -> int:
    """How often `encode_identity` calls `on_step` at most for this many photos."""
    return photos * STEPS_PER_PHOTO + 1


@torch.inference_mode()
def encode_identity(
    photos: list[Photo],
    stages: EncoderStages,
    settings: EncodeSettings = DEFAULT_SETTINGS,
    on_step: Step = go_on,
) -> Identity:
    """Encode one person from one or several photos.

    Args:
        photos: At least one.
        stages: Loaded models.
        settings: Which face, and how several photos are fused.
        on_step: Called many times a second while working, with the steps done since; may raise to
            stop.

    Returns:
        The identity.

    Raises:
        NoFaceError: A photo shows no face. Raised, as the next two, before anything is encoded.
        FaceIndexError: A photo shows fewer faces than the index asks for.
        PulidError: The weights do not fit the photos, or no photo is left.
    """
    portraits, reports = choose_portraits(photos, stages.faces, settings, on_step)
    weights = check_weights(tuple(p.weight for p in portraits), len(portraits), settings.fusion)

    looks = [_recall_look(portrait, stages, on_step) for portrait in portraits]
    tokens = _fuse(looks, weights, settings.fusion, stages)
    on_step()
    uncond_tokens = stages.recall.get(
        ("nobody", stages.dtype), lambda: stages.encoder.unconditional(tokens).cpu()
    )
    return Identity(
        tokens=tokens.float().cpu(),
        uncond_tokens=uncond_tokens.float(),
        arcface_embeddings=torch.stack([portrait.embedding for portrait in portraits]),
        crops=bchw_to_bhwc(torch.cat([look.crops for look in looks])),
        provenance=_provenance(stages, settings, weights),
        photos=reports,
    )


def _fuse(
    looks: list[Look], weights: tuple[float, ...], fusion: str, stages: EncoderStages
) -> Tensor:
    """Make one person's tokens of what was seen on all photos; each photo's own are computed once."""
    device = _device(stages.vision)

    def encode(look: Look) -> Tensor:
        key = ("tokens", look.key, stages.dtype)
        tokens = stages.recall.get(
            key, lambda: stages.encoder(look.condition, list(look.hidden_states)).cpu()
        )
        return tokens.to(device)

    return FUSIONS[fusion]([look.to(device) for look in looks], weights, encode, stages.encoder)


def _recall_look(portrait: Portrait, stages: EncoderStages, on_step: Step) -> Look:
    key = ("look", portrait.key, stages.dtype)
    return stages.recall.get(key, lambda: _look(portrait, stages, on_step))


def _look(portrait: Portrait, stages: EncoderStages, on_step: Step) -> Look:
    on_step()
    crop = photo_to_bchw(portrait.crop).to(_device(stages.parser))
    seen = to_input_size(mask_background(crop, stages.parser(crop)))
    hidden_states, pooled = stages.vision(
        seen.to(device=_device(stages.vision), dtype=stages.dtype), on_step
    )
    on_step()
    condition = torch.cat((portrait.embedding.to(pooled).unsqueeze(0), pooled), dim=1)  # (1, 1280)
    return Look(
        portrait.key,
        torch.cat((to_input_size(crop), seen), dim=3).clamp(0, 1).cpu(),
        condition.cpu(),
        tuple(state.cpu() for state in hidden_states),
    )


def _provenance(
    stages: EncoderStages, settings: EncodeSettings, weights: tuple[float, ...]
) -> Provenance | None:
    if stages.checkpoint is None:
        return None
    return Provenance(stages.checkpoint, stages.faces.name, settings.fusion, weights)


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device
