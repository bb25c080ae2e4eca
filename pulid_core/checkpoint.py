"""Model files -> state dicts -> strictly loaded modules, or CheckpointError.

Files are read as data: safetensors, or PyTorch files with weights_only. Sizes come from shapes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from .errors import CheckpointError, quoted

Module = TypeVar("Module", bound=nn.Module)

KNOWN_MODELS = (
    ("pulid_ca.", "a PuLID-FLUX checkpoint"),
    ("id_adapter", "a PuLID checkpoint for SDXL"),
    *(
        (key, "a PuLID checkpoint for FLUX.2")
        for key in ("double_ca.", "pulid_ca_double.", "id_former.")
    ),
    ("double_blocks.", "a FLUX diffusion model"),
    ("model.diffusion_model.", "a diffusion model"),
    ("visual.", "a CLIP or EVA-CLIP model"),
    ("blocks.0.attn.", "a vision transformer"),
    ("vision_model.", "a CLIP vision model"),
    ("text_model.", "a CLIP text encoder"),
    ("encoder.block.", "a T5 text encoder"),
    ("cp.resnet.", "a BiSeNet face parser"),
    ("decoder.up.", "a VAE"),
    ("lora_", "a LoRA"),
)
"""First part of a typical key -> what such a file is, for error texts only."""

_DAMAGED = (
    *(OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError),
    *(AssertionError, OverflowError, MemoryError, struct.error),
)
"""What PyTorch raises for a file whose bytes are wrong, depending on where they are."""


def describe_keys(keys: Iterable[str]) -> str:
    """Name the model that a checkpoint with these keys holds."""
    keys = list(keys)
    for prefix, description in KNOWN_MODELS:
        if any(key.startswith(prefix) for key in keys):
            return description
    some = ", ".join(sorted(keys)[:3])
    return f"an unknown file with keys like {quoted(some)}" if keys else "empty"


def read_state_dict(path: str | Path, prefix: str = "") -> dict[str, Tensor]:
    """Read tensors of a .safetensors file or of a PyTorch file, without running code.

    Args:
        path: The file.
        prefix: Only keys that start with it are read, and returned without it.

    Raises:
        CheckpointError: The file is damaged, holds code, or holds no tensors.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        with _open_safetensors(path) as file:
            keys = [key for key in file.keys() if key.startswith(prefix)]  # noqa: SIM118
            try:
                return {key.removeprefix(prefix): file.get_tensor(key) for key in keys}
            except SafetensorError as error:  # a type of numbers that PyTorch lacks
                raise damaged(path) from error
    try:
        state_dict = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except UnpicklingError as error:
        raise CheckpointError(
            path,
            "The file holds something other than weights, possibly code, and was not loaded. "
            "Download it again from its original source.",
        ) from error
    except _DAMAGED as error:
        raise damaged(path) from error
    tensors = _only_tensors(state_dict, path)
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def read_shapes(path: str | Path) -> dict[str, tuple[int, ...]]:
    """Read key -> shape. For safetensors only the header is read, never the weights."""
    path = Path(path)
    if path.suffix == ".safetensors":
        with _open_safetensors(path) as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    return {key: tuple(value.shape) for key, value in read_state_dict(path).items()}


def load_strict(
    build: Callable[[Any], Module],
    state_dict: Mapping[str, Tensor],
    path: str | Path,
    ops: Any = nn,
) -> Module:
    """Build a module with exactly these weights: every key consumed, all shapes equal.

    The tensors are taken over without a copy, in their own dtype.

    Args:
        build: Makes the module from a namespace of layers.
        state_dict: The weights.
        path: Where they come from, for the error text.
        ops: torch.nn, or ComfyUI's casting layers.

    Raises:
        CheckpointError: Keys or shapes differ.
    """
    with torch.device("meta"):
        module = build(ops)
        # ComfyUI's layers may make their weights only while loading.
        reference = module if ops is nn else build(nn)
    _check_fits(reference, state_dict, path)
    module.load_state_dict(state_dict, strict=True, assign=True)
    return module.requires_grad_(False).eval()


def _check_fits(module: nn.Module, state_dict: Mapping[str, Tensor], path: str | Path) -> None:
    expected = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    missing = tuple(sorted(expected.keys() - state_dict.keys()))
    unexpected = tuple(sorted(state_dict.keys() - expected.keys()))
    if missing or unexpected:
        raise CheckpointError(
            path,
            f"The file does not fit {type(module).__name__}: {_first(missing)} missing, "
            f"{_first(unexpected)} unexpected; it is {describe_keys(state_dict)}. "
            "Choose the file that the node asks for.",
        )
    for key, shape in expected.items():
        if tuple(state_dict[key].shape) != shape:
            raise CheckpointError(
                path,
                f"{key} should have the shape {shape}, but has {tuple(state_dict[key].shape)}. "
                "Choose the file that the node asks for.",
            )


def _open_safetensors(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise damaged(path) from error


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _only_tensors(loaded: object, path: Path) -> dict[str, Tensor]:
    for wrapper in ("state_dict", "model", "module"):
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in loaded.items()
    ):
        raise CheckpointError(path, "The file holds no state dict. Choose a model file.")
    return loaded


def damaged(path: Path) -> CheckpointError:
    """What is raised for a file whose bytes are wrong or not all there."""
    return CheckpointError(
        path, "The file is damaged or not fully downloaded. Delete it and download it again."
    )


def _first(keys: tuple[str, ...]) -> str:
    return f"{len(keys)} keys ({quoted(keys[0])}, …)" if keys else "no keys"
