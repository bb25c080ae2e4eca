"""One person, ready to be injected, and where they come from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import __version__
from ..encoder.fusion import blend_tokens
from ..errors import IdentityMismatchError
from ..face.report import PhotoReport
from ..images import bhwc_to_bchw

THUMBNAIL_SIZE_PX = 112
BLEND = "blend"
"""Provenance.fusion of a mixed identity."""


class Checkpoint(Protocol):
    """The PuLID file that made an identity."""

    @property
    def name(self) -> str:
        """Name of the file, for texts."""
        ...

    @property
    def sha256(self) -> str:
        """Hash of the whole file, which decides."""
        ...


@dataclass(frozen=True)
class Provenance:
    """Where an identity comes from."""

    checkpoint: Checkpoint
    face_model: str
    """Name of the InsightFace pack; ArcFace vectors of different packs cannot be compared."""
    fusion: str
    """One of fusion.FUSIONS, or "blend"."""
    photo_weights: tuple[float, ...]
    pack_version: str = __version__
    consent: str = ""
    """Who agreed to what, in the words of whoever saved the identity; empty: nobody said."""
    date: str = ""
    """When that was, or when it was saved, YYYY-MM-DD; empty: nobody said."""


@dataclass(frozen=True, eq=False)
class Identity:
    """One person, ready to be injected. All tensors are float32 on the CPU."""

    tokens: Tensor
    """What the cross attentions look at, (1, N, 2048), N a multiple of 32."""
    uncond_tokens: Tensor
    """Nobody, for the negative pass of true CFG, (1, 32, 2048)."""
    arcface_embeddings: Tensor
    """Raw ArcFace vectors, (photos, 512)."""
    crops: Tensor
    """Pictures of what the encoder saw, (photos, H, W, 3) in [0, 1]: the aligned colour crop beside the
    masked gray one, 336 x 672; from a file only a small gray one, or none."""
    provenance: Provenance | None = None
    """None for tokens made by hand: nothing is known that could be checked."""
    photos: tuple[PhotoReport, ...] = ()
    """What happened to each photo; not kept in files."""

    def rounded(self) -> Identity:
        """Round the tokens to float16, what a file holds, so that a saved identity acts the same."""
        return replace(
            self, tokens=round_half(self.tokens), uncond_tokens=round_half(self.uncond_tokens)
        )

    def require(self, checkpoint: Checkpoint) -> None:
        """Refuse to be used with another PuLID file than the one that made this identity.

        Raises:
            IdentityMismatchError: The files differ.
        """
        if self.provenance is None or self.provenance.checkpoint is checkpoint:
            return
        made_by = self.provenance.checkpoint
        if made_by.sha256 != checkpoint.sha256:
            raise IdentityMismatchError(
                f"{made_by.name} (SHA-256 {made_by.sha256[:12]}…)",
                f"{checkpoint.name} (SHA-256 {checkpoint.sha256[:12]}…)",
                "Load the PuLID file that the identity was made with, or encode the photo again.",
            )

    def require_face_model(self, name: str) -> None:
        """Refuse to be compared by another ArcFace model than the one that made the vectors.

        Raises:
            IdentityMismatchError: The models have different names.
        """
        if self.provenance is not None and self.provenance.face_model != name:
            raise IdentityMismatchError(
                f"the face model {self.provenance.face_model}",
                f"the face model {name}",
                "Choose the same face model for both, or encode the photo again.",
            )


def round_half(tokens: Tensor) -> Tensor:
    """Round float32 tokens to values that float16 can hold.

    Tokens beyond float16's 65504 stay as they are; a file then keeps them in float32.
    """
    rounded = tokens.half().float()
    return rounded if rounded.isfinite().all() else tokens


def blend_identities(first: Identity, second: Identity, ratio: float) -> Identity:
    """Mix two people into one that resembles both.

    Args:
        first: What ratio 0 gives.
        second: What ratio 1 gives.
        ratio: Share of the second; below 0 goes away from the second, above 1 from the first.

    Returns:
        An identity with one, mixed, ArcFace vector and the pictures of both people.

    Raises:
        IdentityMismatchError: The identities come from different PuLID files or face models.
    """
    provenance = _common_provenance(first, second, ratio)
    first_face, second_face = (
        identity.arcface_embeddings.mean(dim=0, keepdim=True) for identity in (first, second)
    )
    return Identity(
        tokens=blend_tokens(first.tokens, second.tokens, ratio),
        uncond_tokens=first.uncond_tokens,
        arcface_embeddings=first_face + ratio * (second_face - first_face),
        crops=crops_from_thumbnails(torch.cat((thumbnails(first), thumbnails(second)))),
        provenance=provenance,
        photos=(*first.photos, *second.photos),
    )


def _common_provenance(first: Identity, second: Identity, ratio: float) -> Provenance | None:
    one, other = first.provenance, second.provenance
    if one is None or other is None:
        return None
    second.require(one.checkpoint)
    second.require_face_model(one.face_model)
    return Provenance(one.checkpoint, one.face_model, BLEND, (1 - ratio, ratio))


def thumbnails(identity: Identity) -> Tensor:
    """Reduce the masked gray crops of an identity to (photos, 112, 112) in [0, 1]."""
    height = identity.crops.shape[1]
    masked = identity.crops[:, :, -height:, :1]  # the right of the two pictures
    if len(masked) == 0:
        return masked.new_zeros(0, THUMBNAIL_SIZE_PX, THUMBNAIL_SIZE_PX)
    size = (THUMBNAIL_SIZE_PX, THUMBNAIL_SIZE_PX)
    return F.interpolate(bhwc_to_bchw(masked), size, mode="area").squeeze(1)


def crops_from_thumbnails(gray: Tensor) -> Tensor:
    """(photos, 112, 112) -> pictures, (photos, 112, 112, 3)."""
    return gray.unsqueeze(-1).expand(-1, -1, -1, 3)


def provenance_text(identity: Identity) -> str:
    """Tell where an identity comes from."""
    provenance = identity.provenance
    if provenance is None:
        return "An identity of unknown origin."
    weights = ", ".join(f"{weight:g}" for weight in provenance.photo_weights)
    checkpoint = provenance.checkpoint
    return "\n".join(
        (
            f"{len(identity.arcface_embeddings)} photo(s), fusion {provenance.fusion}, "
            f"weights {weights}, {identity.tokens.shape[1]} tokens",
            f"PuLID file {checkpoint.name}, SHA-256 {checkpoint.sha256}",
            f"Face model {provenance.face_model}, made by PuLID for FLUX {provenance.pack_version}",
            consent_text(provenance),
        )
    )


def consent_text(provenance: Provenance) -> str:
    """Tell who agreed to what, and when."""
    when = f" ({provenance.date})" if provenance.date else ""
    return f"Consent: {provenance.consent or 'not stated'}{when}"
