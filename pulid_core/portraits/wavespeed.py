"""WaveSpeed's hosted FLUX-PuLID as a painter; pace and record are its client's."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from .. import wavespeed
from ..paid_jobs.clock import Cancelled
from ..wavespeed.errors import PaidJobError
from .errors import PainterLostError, PortraitError
from .table import Portrait

SIZE = "1024*1024"


class Wavespeed:
    """The service, which bills every new picture once.

    Args:
        state: Folder of key and record, if not the usual one.
    """

    name = "wavespeed"
    at_once = 2

    def __init__(self, state: Path | None):
        self._client = wavespeed.WavespeedClient(state)
        self.price_usd = self._client.account().price_usd
        self._order = partial(self._client.generate, size=SIZE, max_cost_usd=self.price_usd)

    def paint(self, portrait: Portrait, stopped: Cancelled) -> bytes:
        """Order a portrait, or collect what was paid; as the service's PNG file.

        Raises:
            PortraitError: There is no picture; it was not ordered twice.
            PainterLostError: Nothing more can be ordered.
        """
        photo, prompt, seed, _ = portrait
        try:
            return self._order(photo, prompt, seed=seed, cancelled=stopped).files[0]
        except PaidJobError as error:
            kind = PainterLostError if error.stops_batch else PortraitError
            raise kind(str(error)) from error

    def memory_bytes(self) -> None:
        """The service does not tell."""
