"""Identity <-> one small .safetensors file, or a card, a PNG that holds one: docs/identity-format.md.

Loading needs torch and safetensors only: no detector, no vision tower, no PuLID checkpoint.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ..checkpoint import damaged
from ..errors import CheckpointError, IdentityExistsError, PulidError, quoted
from ..images import Pixels
from ..whole_file import write_whole
from .card import card_bytes, card_lines, read_card
from .identity import (
    THUMBNAIL_SIZE_PX,
    Identity,
    Provenance,
    crops_from_thumbnails,
    round_half,
    thumbnails,
)
from .name import CARD_SUFFIX, SUFFIX

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
OPTIONAL_TEXTS = ("consent", "date")
"""Entries that files of earlier versions lack."""

MAX_FILE_BYTES = 2**28
"""About 2000 photos. A file is data of strangers: its size is looked at before anything is read."""
MAX_HEADER_BYTES = 2**20
MAX_TEXT_CHARACTERS = 2**16
MAX_THUMBNAILS = 256
"""Of more photos or people only the first keep their pictures."""

NOBODY_SHAPE = (1, 32, 2048)
ARCFACE_SIZE = 512

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
        path: Ends in .safetensors, or for a card in .png; missing folders are made.
        with_thumbnails: Keep a gray 112 px picture of every photo's face, and show one on a card.
        overwrite: Replace a file that exists.

    Returns:
        The path.

    Raises:
        IdentityExistsError: The file exists, and overwriting is not allowed. It stays as it is.
        PulidError: The identity lacks provenance, the path has another ending, or it cannot be written.
    """
    path = Path(path)
    if path.suffix not in (SUFFIX, CARD_SUFFIX):
        raise PulidError(
            f"An identity becomes a {SUFFIX} file or a card, {CARD_SUFFIX}, but the name is {path.name}. "
            f"Let it end in one of these."
        )
    provenance = _known(identity)
    content = save(_tensors(identity, with_thumbnails), _texts(provenance))
    if path.suffix == CARD_SUFFIX:
        face = _face(identity) if with_thumbnails else None
        content = card_bytes(content, face, card_lines(path.stem, provenance))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_unless_there(content, path, overwrite)
    except OSError as error:
        raise PulidError(
            f"The identity should become the file {path}, but cannot be written: {error}. "
            "Make room, close the file elsewhere, or choose a folder that may be written."
        ) from error
    return path


def load_identity(path: str | Path) -> Identity:
    """Read an identity from a .safetensors file or a card.

    Raises:
        CheckpointError: The file is missing, damaged, no identity, or of a newer format.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(
            path,
            "A file with an identity was expected, .safetensors or a card, but there is none. Choose one.",
        )
    texts, tensors = _parse(_content(path), path)
    _check_format(texts, path)
    _check_tensors(tensors, path)
    pictures = tensors.get(THUMBNAILS, torch.zeros(0, 1, 1, dtype=torch.uint8))
    return Identity(
        tokens=tensors[TOKENS].float(),
        uncond_tokens=tensors[UNCOND_TOKENS].float(),
        arcface_embeddings=tensors[ARCFACE].float(),
        crops=crops_from_thumbnails(pictures.float() / 255),
        provenance=_provenance(texts, path),
    )


def _write_unless_there(content: bytes, path: Path, overwrite: bool) -> None:
    try:
        write_whole(path, content, overwrite=overwrite)
    except FileExistsError as error:
        raise IdentityExistsError(path) from error


def _content(path: Path) -> bytes:
    """The .safetensors content of a file or card; what no identity can be is refused before it is read."""
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise _stranger(path, f"it has {size:,} bytes")
        return path.read_bytes() if path.suffix == SUFFIX else read_card(path)
    except OSError as error:
        raise CheckpointError(
            path, f"An identity was wanted, but the file cannot be read: {error}. Allow reading it."
        ) from error


def _parse(content: bytes, path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The texts of the header, and the tensors."""
    header = int.from_bytes(content[:8], "little")
    if MAX_HEADER_BYTES < header < len(content):
        raise _stranger(path, f"it has {len(content):,} bytes, {header:,} of them its header")
    try:
        tensors = load(content)
    except (SafetensorError, KeyError) as error:  # KeyError: a type of numbers that PyTorch lacks
        raise damaged(path) from error
    return json.loads(content[8 : 8 + header]).get("__metadata__", {}), tensors


def _face(identity: Identity) -> Pixels | None:
    """The first face, in colour where it is known so."""
    if not len(identity.crops):
        return None
    side = identity.crops.shape[1]  # the colour crop stands left of the gray one
    return (identity.crops[0, :, :side] * 255).round().to(torch.uint8).numpy()


def _tensors(identity: Identity, with_thumbnails: bool) -> dict[str, Tensor]:
    tensors = {
        TOKENS: _smallest(identity.tokens),
        UNCOND_TOKENS: _smallest(identity.uncond_tokens),
        ARCFACE: identity.arcface_embeddings.contiguous(),
    }
    if with_thumbnails and len(identity.crops):
        tensors[THUMBNAILS] = (
            (thumbnails(identity)[:MAX_THUMBNAILS] * 255).round().to(torch.uint8).contiguous()
        )
    return tensors


def _smallest(tokens: Tensor) -> Tensor:
    """Float16, or float32 for tokens that float16 cannot hold."""
    rounded = round_half(tokens).contiguous()
    return rounded.half() if torch.equal(rounded.half().float(), rounded) else rounded


def _known(identity: Identity) -> Provenance:
    if identity.provenance is None:
        raise PulidError(
            "An identity is saved together with the PuLID file that made it, but this one was made "
            "without. Give EncoderStages its checkpoint."
        )
    return identity.provenance


def _texts(provenance: Provenance) -> dict[str, str]:
    return {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "pack_version": provenance.pack_version,
        "checkpoint_name": provenance.checkpoint.name,
        "checkpoint_sha256": provenance.checkpoint.sha256,
        "face_model": provenance.face_model,
        "fusion": provenance.fusion,
        "photo_weights": json.dumps(provenance.photo_weights),
        **{name: text for name in OPTIONAL_TEXTS if (text := _one_line(getattr(provenance, name)))},
    }


def _one_line(text: str) -> str:
    """What a person wrote, as a reader takes it."""
    return "".join(filter(str.isprintable, " ".join(text.split())))


def _provenance(texts: dict[str, str], path: Path) -> Provenance:
    try:
        weights = tuple(float(weight) for weight in json.loads(texts["photo_weights"]))
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise _stranger(path, "its photo_weights are no list of numbers") from error
    if not all(map(math.isfinite, weights)):
        raise _stranger(path, "its photo_weights are not finite")
    return Provenance(
        checkpoint=KnownCheckpoint(texts["checkpoint_name"], texts["checkpoint_sha256"]),
        face_model=texts["face_model"],
        fusion=texts["fusion"],
        photo_weights=weights,
        pack_version=texts["pack_version"],
        consent=texts.get("consent", ""),
        date=texts.get("date", ""),
    )


def _check_format(texts: dict[str, str], path: Path) -> None:
    if texts.get("format") != FORMAT:
        raise _stranger(path, "its header does not say so")
    version = texts.get("format_version", "")
    if version != str(FORMAT_VERSION):
        raise CheckpointError(
            path,
            f"An identity of format version {FORMAT_VERSION} was expected, but this one has "
            f"version {quoted(version) if version else 'none'}. Update PuLID for FLUX, or save the identity again.",
        )
    missing = [name for name in TEXTS if name not in texts]
    if missing:
        raise _stranger(path, f"its header lacks {', '.join(missing)}")
    for name in (*TEXTS, *texts.keys() & OPTIONAL_TEXTS):
        is_list = name == "photo_weights"
        if len(texts[name]) > MAX_TEXT_CHARACTERS or not (is_list or texts[name].isprintable()):
            raise _stranger(path, f"its {name} is {quoted(texts[name])}")
    if not re.fullmatch("[0-9a-f]{64}", texts["checkpoint_sha256"]):
        raise _stranger(path, f"its checkpoint_sha256 is {quoted(texts['checkpoint_sha256'])}")


_SHAPES: dict[str, Callable[[tuple[int, ...]], bool]] = {
    TOKENS: lambda shape: (
        len(shape) == 3
        and shape[::2] == NOBODY_SHAPE[::2]
        and shape[1] > 0
        and shape[1] % NOBODY_SHAPE[1] == 0
    ),
    UNCOND_TOKENS: lambda shape: shape == NOBODY_SHAPE,
    ARCFACE: lambda shape: len(shape) == 2 and shape[0] > 0 and shape[1] == ARCFACE_SIZE,
    THUMBNAILS: lambda shape: (
        len(shape) == 3
        and shape[0] <= MAX_THUMBNAILS
        and shape[1:] == (THUMBNAIL_SIZE_PX, THUMBNAIL_SIZE_PX)
    ),
}
"""Tensor -> whether it may have a shape."""


def _check_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    required = {TOKENS, UNCOND_TOKENS, ARCFACE}
    if tensors.keys() - {THUMBNAILS} != required:
        raise _stranger(path, f"it holds the tensors {quoted(', '.join(sorted(tensors)))}")
    for name, tensor in tensors.items():
        wanted = (torch.uint8,) if name == THUMBNAILS else FLOATS
        if tensor.dtype not in wanted:
            raise _stranger(path, f"its {name} are {tensor.dtype}, not {wanted[0]}")
        if not _SHAPES[name](tuple(tensor.shape)):
            raise _stranger(path, f"its {name} have the shape {quoted(tuple(tensor.shape))}")
    if not all(tensors[name].isfinite().all() for name in required):
        raise _stranger(path, "it holds NaN or infinite values")


def _stranger(path: Path, found: str) -> CheckpointError:
    return CheckpointError(
        path,
        f"An identity saved by PuLID for FLUX was expected, but {found}. "
        "Choose a file that PulidSaveIdentity wrote.",
    )
