"""WaveSpeed's hosted FLUX-PuLID as a painter; pace and record are its client's."""

from __future__ import annotations

from ..paid_jobs.clock import Cancelled
from ..wavespeed import WavespeedClient
from ..wavespeed.errors import PaidJobError
from .errors import PainterLostError, PortraitError
from .table import Portrait

SIZE = "1024*1024"


class Wavespeed:
    """The service, which bills every new picture once.

    Args:
        client: Has the key and the record.
        price_usd: What one picture may cost at most.
    """

    name = "wavespeed"
    at_once = 2

    def __init__(self, client: WavespeedClient, price_usd: float):
        self._client = client
        self._limits = {"size": SIZE, "max_cost_usd": price_usd}

    def paint(self, portrait: Portrait, stopped: Cancelled) -> bytes:
        """Order a portrait, or collect what was paid; as the service's PNG file.

        Raises:
            PortraitError: There is no picture; it was not ordered twice.
            PainterLostError: Nothing more can be ordered.
        """
        order = {"photo": portrait.photo, "prompt": portrait.prompt, "seed": portrait.seed}
        try:
            batch = self._client.generate(**order, **self._limits, cancelled=stopped)
        except PaidJobError as error:
            kind = PainterLostError if error.stops_batch else PortraitError
            raise kind(str(error)) from error
        return batch.files[0]

    def memory_bytes(self) -> None:
        """The service does not tell."""
