"""WaveSpeedAI's hosted FLUX-PuLID from plain Python: one call, paid once, cancelled at once.

import numpy as np
from PIL import Image
from pulid_core.wavespeed import WavespeedClient, terminal_progress

photo = np.asarray(Image.open("face.jpg").convert("RGB"))
batch = WavespeedClient().generate(
    photo, "a cinematic portrait in the rain", seed=7, progress=terminal_progress
)
Image.fromarray((batch.images[0] * 255).round().astype("uint8")).save("portrait.png")
"""

from .client import (
    Account,
    Batch,
    Estimate,
    Progress,
    WavespeedClient,
    terminal_progress,
)
from .clock import Clock, Timing
from .jobs import Request, check_size, parse_size
from .pacing import Pacer
from .transport import AddressPolicy, Transport

__all__ = [
    "Account",
    "AddressPolicy",
    "Batch",
    "Clock",
    "Estimate",
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
