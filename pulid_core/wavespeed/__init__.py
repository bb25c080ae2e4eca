"""WaveSpeedAI's hosted FLUX-PuLID from plain Python: one call, paid once, cancelled at once.

from pulid_core.wavespeed import WavespeedClient, terminal_progress

client = WavespeedClient()
batch = client.generate(
    "face.jpg", "a cinematic portrait in the rain", seed=7, progress=terminal_progress
)
batch.save("portraits")
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .library import (
        Account,
        AddressPolicy,
        Batch,
        Clock,
        Estimate,
        Listed,
        Pacer,
        Progress,
        Request,
        Timing,
        Transport,
        WavespeedClient,
        check_size,
        parse_size,
        terminal_progress,
    )

__all__ = [
    "Account",
    "AddressPolicy",
    "Batch",
    "Clock",
    "Estimate",
    "Listed",
    "Pacer",
    "Progress",
    "Request",
    "Timing",
    "Transport",
    "WavespeedClient",
    "check_size",
    "parse_size",
    "terminal_progress",
]


def __getattr__(name: str) -> Any:
    """Import the client when it is asked for: ComfyUI lists the nodes without it."""
    if name not in __all__:
        raise AttributeError(name)
    from . import library

    return getattr(library, name)
