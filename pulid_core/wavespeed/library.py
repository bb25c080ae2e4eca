"""All public names in one place."""

# ruff: noqa: F401

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
