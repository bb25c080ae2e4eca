"""WaveSpeed's hosted FLUX-PuLID as a painter; pace and record are its client's."""

from __future__ import annotations

import io

from PIL import Image

from ..paid_jobs.clock import Cancelled
from ..wavespeed import WavespeedClient
from ..wavespeed.errors import PaidJobError
from .errors import PainterLostError, PortraitError
from .table import Portrait

AT_ONCE = 2
SIZE = "1024*1024"


class Wavespeed:
    """The service, which bills every new picture once.

    Args:
        client: Has the key and the record.
        price_usd: What one picture may cost at most.
    """

    name = "wavespeed"
    at_once = AT_ONCE

    def __init__(self, client: WavespeedClient, price_usd: float):
        self._client = client
        self._price_usd = price_usd

    def paint(self, portrait: Portrait, stopped: Cancelled) -> bytes:
        """Order a portrait, or collect what was paid; as a PNG file.

        Raises:
            PortraitError: There is no picture; it was not ordered twice.
            PainterLostError: Nothing more can be ordered.
        """
        try:
            batch = self._client.generate(
                portrait.photo,
                portrait.prompt,
                size=SIZE,
                seed=portrait.seed,
                max_cost_usd=self._price_usd,
                cancelled=stopped,
            )
        except PaidJobError as error:
            kind = PainterLostError if error.stops_batch else PortraitError
            raise kind(str(error)) from error
        file = io.BytesIO()
        Image.fromarray((batch.images[0] * 255).round().astype("uint8")).save(file, "PNG")
        return file.getvalue()

    def memory_bytes(self) -> None:
        """The service does not tell."""
