"""What the sections of the GPU's benchmark measure with: steps in turns, distances, memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from .gpu_models import DEVICE, sample, synchronise
from .measure import Row

IS_CUDA = DEVICE.type == "cuda"


def added(name: str, plain: ModelPatcher, ours: ModelPatcher, scale: Any) -> Row:
    """Steps with one person, ours, beside those with nobody, the peer."""
    medians = []
    for model in (ours, plain):
        sample(model, scale, 2)
        medians.append(1e3 * statistics.median(sample(model, scale)[0]))
    return Row(f"step with one person and with nobody, {name}", *medians, "ms", "")


def in_turns(
    models: dict[str, ModelPatcher], scale: Any
) -> tuple[dict[str, list[float]], dict[str, float], dict[str, Tensor]]:
    """Sample with several models in turns.

    Returns:
        By name: seconds of the steps, GiB of memory at most, the latent.
    """
    times: dict[str, list[float]] = {name: [] for name in models}
    peaks, latents = {}, {}
    for turn in range(scale.rounds + 1):
        for name, model in models.items():
            reset_peak()
            gaps, latents[name] = sample(model, scale, 2 if turn == 0 else None)
            peaks[name] = peak_gib()
            times[name] += gaps if turn else []
    return times, peaks, latents


def timed(work: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """Run once and wait for the device."""
    synchronise()
    start = time.perf_counter()
    result = work()
    synchronise()
    return result, time.perf_counter() - start


def difference(value: Tensor, other: Tensor, base: Tensor) -> float:
    """Distance of two results, in percent of the distance of the second from a base."""
    value, other, base = (tensor.double().cpu() for tensor in (value, other, base))
    return float(100 * (value - other).norm() / (other - base).norm())


def spread(seconds: list[float]) -> str:
    """Half the distance from the fastest to the slowest, as a part of the median."""
    return f"±{(max(seconds) - min(seconds)) / 2 / statistics.median(seconds):.1%}"


def reset_peak() -> None:
    if IS_CUDA:
        torch.cuda.reset_peak_memory_stats()


def peak_gib() -> float:
    return torch.cuda.max_memory_allocated() / 2**30 if IS_CUDA else 0.0


def allocated_mib() -> float:
    return torch.cuda.memory_allocated() / 2**20 if IS_CUDA else 0.0
