"""WaveSpeedAI's hosted FLUX-PuLID from plain Python: one call, paid once, cancelled at once.

from pulid_core.wavespeed import WavespeedClient, terminal_progress

client = WavespeedClient()
batch = client.generate(
    "face.jpg", "a cinematic portrait in the rain", seed=7, progress=terminal_progress
)
batch.save("portraits")

client            the one call, and what was paid: list, collect, estimate, account
batch             what a client gives back
command           `pulid.py remote`
terminal          progress on a terminal
jobs              requests, and the jobs of one image each
planning          what a request costs, and what of it is paid already
runner            one job, from its row in the record to its picture
uploads           the photo's way there
waiting           when to look at a prediction that is being made
recovery          predictions whose answer was lost, in the service's list
delivery          downloads, checks and keeps the pictures
images            photos to upload, and delivered files, within limits
api               one method per endpoint
answers           what the service answers, typed
codes, refusals   its statuses and codes, and the errors that a refusal becomes
errors            what can go wrong, and whether it was billed
timing            every waiting period by name
price_and_limits  what the service takes and asks
credentials       the key, and what no text may show
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..paid_jobs.addresses import AddressPolicy
    from ..paid_jobs.clock import Clock
    from ..paid_jobs.crew import Progress
    from ..paid_jobs.pacing import Pacer
    from ..paid_jobs.transport import Transport
    from .batch import Account, Batch, Estimate, Listed
    from .client import WavespeedClient
    from .jobs import Request, check_size, parse_size
    from .terminal import terminal_progress
    from .timing import Timing

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
