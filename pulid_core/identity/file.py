"""Identity <-> one small .safetensors file. The format is described in docs/identity-format.md.

Loading needs torch and safetensors only: no detector, no vision tower, no PuLID checkpoint.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from ..checkpoint import read_metadata, read_state_dict
from ..errors import CheckpointError, IdentityExistsError, PulidError
from .identity import Identity, Provenance, crops_from_thumbnails, round_half, thumbnails

SUFFIX = ".safetensors"
FORMAT = "pulid-flux-identity"
FORMAT_VERSION = 1

TOKENS, UNCOND_TOKENS, ARCFACE, THUMBNAILS = (
    "tokens",
    "uncond_tokens",
    "arcface_embeddings",
    "thumbnails",
)
TEXTS = (
    "pack_version",
    "checkpoint_name",
    "checkpoint_sha256",
    "face_model",
    "fusion",
    "photo_weights",
)
"""Entries of the header besides format and format_version."""

FLOATS = (torch.float16, torch.bfloat16, torch.float32)


@dataclass(frozen=True)
class KnownCheckpoint:
    """A PuLID file of which only name and hash are known."""

    name: str
    sha256: str


def save_identity(
    identity: Identity, path: str | Path, *, with_thumbnails: bool = True, overwrite: bool = False
) -> Path:
    """Write an identity to a file.

    Args:
        identity: With provenance.
        path: Ends in .safetensors; missing folders are made.
        with_thumbnails: Keep a gray 112 px picture of every photo's face.
        overwrite: Replace a file that exists.

    Returns:
        The path.

    Raises:
        IdentityExistsError: The file exists, and overwriting is not allowed. It stays as it is.
        PulidError: The identity lacks provenance, the path is no .safetensors file, or it cannot
            be written.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise PulidError(
            f"An identity becomes a {SUFFIX} file, but the name is {path.name}. "
            f"Let it end in {SUFFIX}."
        )
    content = save(_tensors(identity, with_thumbnails), _texts(identity))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(content, path, overwrite)
    except OSError as error:
        raise PulidError(
            f"The identity should become the file {path}, but cannot be written: {error}. "
            "Make room, close the file elsewhere, or choose a folder that may be written."
        ) from error
    return path


def load_identity(path: str | Path) -> Identity:
    """Read an identity from a file.

    Raises:
        CheckpointError: The file is missing, damaged, no identity, or of a newer format.
    """
    path = Path(path)
    if path.suffix != SUFFIX or not path.is_file():
        raise CheckpointError(
            path, f"A {SUFFIX} file with an identity was expected, but there is none. Choose one."
        )
    texts = read_metadata(path)
    _check_format(texts, path)
    # Copies: what is read stays mapped to the file, and would change and vanish with it.
    tensors = {name: tensor.clone() for name, tensor in read_state_dict(path).items()}
    _check_tensors(tensors, path)
    pictures = tensors.get(THUMBNAILS, torch.zeros(0, 1, 1, dtype=torch.uint8))
    return Identity(
        tokens=tensors[TOKENS].float(),
        uncond_tokens=tensors[UNCOND_TOKENS].float(),
        arcface_embeddings=tensors[ARCFACE].float(),
        crops=crops_from_thumbnails(pictures.float() / 255),
        provenance=_provenance(texts, path),
    )


def _write(content: bytes, path: Path, overwrite: bool) -> None:
    """Write a whole file, or none.

    Raises:
        IdentityExistsError: There is one, and overwriting is not allowed.
    """
    begun = path.with_suffix(".unfinished") if overwrite else path
    try:
        begun.touch(exist_ok=overwrite)
    except FileExistsError as error:
        raise IdentityExistsError(path) from error
    try:
        begun.write_bytes(content)
        if overwrite:
            begun.replace(path)
    except OSError:
        begun.unlink(missing_ok=True)
        raise


def _tensors(identity: Identity, with_thumbnails: bool) -> dict[str, Tensor]:
    tensors = {
        TOKENS: _smallest(identity.tokens),
        UNCOND_TOKENS: _smallest(identity.uncond_tokens),
        ARCFACE: identity.arcface_embeddings.contiguous(),
    }
    if with_thumbnails and len(identity.crops):
        tensors[THUMBNAILS] = (thumbnails(identity) * 255).round().to(torch.uint8).contiguous()
    return tensors


def _smallest(tokens: Tensor) -> Tensor:
    """Float16, or float32 for tokens that float16 cannot hold."""
    rounded = round_half(tokens).contiguous()
    return rounded.half() if torch.equal(rounded.half().float(), rounded) else rounded


def _texts(identity: Identity) -> dict[str, str]:
    provenance = identity.provenance
    if provenance is None:
        raise PulidError(
            "An identity is saved together with the PuLID file that made it, but this one was made "
            "without. Give EncoderStages its checkpoint."
        )
    return {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "pack_version": provenance.pack_version,
        "checkpoint_name": provenance.checkpoint.name,
        "checkpoint_sha256": provenance.checkpoint.sha256,
        "face_model": provenance.face_model,
        "fusion": provenance.fusion,
        "photo_weights": json.dumps(provenance.photo_weights),
    }


def _provenance(texts: dict[str, str], path: Path) -> Provenance:
    try:
        weights = tuple(float(weight) for weight in json.loads(texts["photo_weights"]))
    except (ValueError, TypeError, RecursionError) as error:
        raise _stranger(path, "its photo_weights are no list of numbers") from error
    return Provenance(
        checkpoint=KnownCheckpoint(texts["checkpoint_name"], texts["checkpoint_sha256"]),
        face_model=texts["face_model"],
        fusion=texts["fusion"],
        photo_weights=weights,
        pack_version=texts["pack_version"],
    )


def _check_format(texts: dict[str, str], path: Path) -> None:
    if texts.get("format") != FORMAT:
        raise _stranger(path, "its header does not say so")
    version = texts.get("format_version", "")
    if version != str(FORMAT_VERSION):
        raise CheckpointError(
            path,
            f"An identity of format version {FORMAT_VERSION} was expected, but this one has "
            f"version {version or 'none'}. Update PuLID for FLUX, or save the identity again.",
        )
    missing = [name for name in TEXTS if name not in texts]
    if missing:
        raise _stranger(path, f"its header lacks {', '.join(missing)}")


def _check_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    required = {TOKENS, UNCOND_TOKENS, ARCFACE}
    if tensors.keys() - {THUMBNAILS} != required:
        raise _stranger(path, f"it holds the tensors {', '.join(sorted(tensors))}")
    for name, tensor in tensors.items():
        wanted = (torch.uint8,) if name == THUMBNAILS else FLOATS
        if tensor.dtype not in wanted:
            raise _stranger(path, f"its {name} are {tensor.dtype}, not {wanted[0]}")
    tokens, uncond_tokens = tensors[TOKENS], tensors[UNCOND_TOKENS]
    if (
        tokens.ndim != 3
        or uncond_tokens.ndim != 3
        or len(tokens) != 1
        or len(uncond_tokens) != 1
        or 0 in tokens.shape
        or 0 in uncond_tokens.shape
        or tokens.shape[1] % uncond_tokens.shape[1]
        or tokens.shape[2] != uncond_tokens.shape[2]
    ):
        raise _stranger(
            path, f"its tokens have the shapes {list(tokens.shape)} and {list(uncond_tokens.shape)}"
        )
    pictures = tensors.get(THUMBNAILS)
    if tensors[ARCFACE].ndim != 2 or (pictures is not None and pictures.ndim != 3):
        raise _stranger(path, "its ArcFace vectors or thumbnails have another shape")
    if not all(tensors[name].isfinite().all() for name in required):
        raise _stranger(path, "it holds NaN or infinite values")


def _stranger(path: Path, found: str) -> CheckpointError:
    return CheckpointError(
        path,
        f"An identity saved by PuLID for FLUX was expected, but {found}. "
        "Choose a file that PulidSaveIdentity wrote.",
    )
