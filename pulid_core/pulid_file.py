"""The PuLID-FLUX checkpoint: one file that holds the IDFormer and the cross attentions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from .checkpoint import describe_keys, load_strict, read_shapes, read_state_dict
from .encoder.idformer import IDFormer, IDFormerSizes
from .errors import CheckpointError
from .file_hash import HashMemory
from .injection.attention import CrossAttentionSizes, IdentityCrossAttention

ENCODER_PREFIX = "pulid_encoder."
ATTENTION_PREFIX = "pulid_ca."

Value = TypeVar("Value")


@dataclass(frozen=True)
class PulidFile:
    """A checked PuLID-FLUX checkpoint on disk; its weights are read when asked for."""

    path: Path
    encoder_sizes: IDFormerSizes
    attention_sizes: CrossAttentionSizes
    hashes: HashMemory = field(default_factory=HashMemory, compare=False)

    @classmethod
    def open(cls, path: str | Path, hashes: HashMemory | None = None) -> PulidFile:
        """Read the sizes of a checkpoint from the shapes in it.

        Args:
            path: The file.
            hashes: Remembers its SHA-256.

        Raises:
            CheckpointError: The file is damaged or no PuLID-FLUX checkpoint.
        """
        shapes = read_shapes(path)
        others = tuple(k for k in shapes if not k.startswith((ENCODER_PREFIX, ATTENTION_PREFIX)))
        stranger = CheckpointError(
            path,
            "A PuLID-FLUX checkpoint was expected, but this is "
            f"{describe_keys(others or shapes)}. Choose pulid_flux_v0.9.1.safetensors.",
        )
        if others:
            raise stranger
        try:
            encoder_sizes = IDFormerSizes.from_shapes(_below(ENCODER_PREFIX, shapes))
            attention_sizes = CrossAttentionSizes.from_shapes(_below(ATTENTION_PREFIX, shapes))
        except KeyError:
            raise stranger from None
        return cls(Path(path), encoder_sizes, attention_sizes, hashes or HashMemory())

    @property
    def name(self) -> str:
        """Name of the file, for texts."""
        return self.path.name

    @property
    def sha256(self) -> str:
        """Hash of the whole file. Reads it, which takes seconds, when asked for the first time."""
        return self._sha256

    @cached_property
    def _sha256(self) -> str:
        return self.hashes.sha256(self.path)

    def load_encoder(self, ops: Any = nn) -> IDFormer:
        """Build the IDFormer with the dtype of the file."""
        weights = read_state_dict(self.path, ENCODER_PREFIX)
        return load_strict(lambda ops: IDFormer(self.encoder_sizes, ops), weights, self.path, ops)

    def load_attention(self, index: int) -> IdentityCrossAttention:
        """Read one cross attention, in injection order, with the dtype of the file."""
        weights = read_state_dict(self.path, f"{ATTENTION_PREFIX}{index}.")
        return load_strict(
            lambda ops: IdentityCrossAttention(self.attention_sizes, ops), weights, self.path
        )


def _below(prefix: str, entries: Mapping[str, Value]) -> dict[str, Value]:
    return {k.removeprefix(prefix): v for k, v in entries.items() if k.startswith(prefix)}
