"""What a client gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import RemoteError
from .delivery import Delivery
from .errors import RemoteBatchFailed
from .images import extension_of, resize_image
from .jobs import Job


@dataclass(frozen=True)
class Estimate:
    """What a request would cost, before anything is sent.

    Attributes:
        images: How many images it gives.
        new: How many of them would be generated and billed.
        perhaps: How many of those may turn out to be paid already.
        price_usd: The price of one of this size.
        quoted: True when the service quoted the price, False for the list price.
    """

    images: int
    new: int
    perhaps: int
    price_usd: float
    quoted: bool

    @property
    def cost_usd(self) -> float:
        """What the new images cost together, US dollars."""
        return self.new * self.price_usd

    @property
    def text(self) -> str:
        """One line for people."""
        source = "" if self.quoted else " (list price)"
        return f"{self.images} image(s), {self.new} new, about ${self.cost_usd:.2f}{source}"


@dataclass(frozen=True)
class Account:
    """What an account can do.

    Attributes:
        balance_usd: Its credit, or None without a key.
        price_usd: The price of one image of 1024 x 1024 pixels.
        quoted: True when the service quoted the price.
    """

    balance_usd: float | None
    price_usd: float
    quoted: bool


@dataclass(frozen=True)
class Listed:
    """One prediction of the last 7 days.

    Attributes:
        state: The service's word.
        created_at: The service's date.
        cost_usd: What it cost by WaveSpeed's account, or None where that does not say.
        url: Where its image is; a signed part is left out.
        is_ours: Whether this machine's record has it.
    """

    prediction_id: str
    state: str
    created_at: str
    cost_usd: float | None
    url: str
    is_ours: bool


@dataclass(frozen=True)
class Batch:
    """The images of a request, in the order photo, prompt, seed.

    Attributes:
        images: (H, W, 3) each, float32 in [0, 1], all of the requested size.
        metadata: One dictionary per image: the job, the service's answer, warnings.
        prediction_ids: One per job; feed them to `collect`.
        failures: Texts of the jobs that gave no image, with `keep_successful`.
        files: The service's own bytes of each image.
        summary: One line on what the run did and cost.
    """

    images: list[NDArray[np.float32]] = field(default_factory=list, repr=False)
    metadata: list[dict[str, Any]] = field(default_factory=list, repr=False)
    prediction_ids: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    files: list[bytes] = field(default_factory=list, repr=False)
    summary: str = ""

    def save(self, folder: str | PathLike[str]) -> list[Path]:
        """Write each image as the service encoded it, named by its prediction; returns the files."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        paths: list[Path] = []
        for facts, data in zip(self.metadata, self.files, strict=True):
            stem, extension = facts["prediction_id"], extension_of(data)
            path = Path(folder) / f"{stem}.{extension}"
            for copy in range(2, 2 + len(paths)):
                path = Path(folder) / f"{stem}-{copy}.{extension}" if path in paths else path
            path.write_bytes(data)
            paths.append(path)
        return paths

    def add(self, delivery: Delivery, job: Job | None = None) -> None:
        """Append what a job gave, resampled to the size that was asked for."""
        self.prediction_ids.append(delivery.prediction_id)
        for pixels, data in zip(delivery.images, delivery.files, strict=True):
            image = pixels.astype(np.float32) / np.float32(255)
            height, width = image.shape[:2]
            facts = delivery.describe(width, height) | (job.facts() if job else {})
            if job and f"{width}*{height}" != job.request.size:
                facts["warnings"].append(f"The image came as {width}*{height} and was resampled.")
                image = resize_image(image, job.request.width, job.request.height)
            self.images.append(image)
            self.metadata.append(facts)
            self.files.append(data)


def batch_error(errors: Mapping[str, RemoteError], finished: int) -> RemoteError:
    """The error for a batch: that of its only job, or one for all."""
    failed: Sequence[RemoteError] = list(errors.values())
    if finished == 0 and len({id(error) for error in failed}) == 1:
        return failed[0]
    return RemoteBatchFailed(failed, finished)
