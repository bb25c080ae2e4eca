"""From a completed prediction to its pictures, and what is said about both."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from ..paid_jobs.clock import Cancelled, Clock
from ..paid_jobs.store import ResultStore
from ..paid_jobs.transport import TransportError
from ..pixels import Pixels
from . import codes
from .answers import Prediction, expiry, parse_prediction
from .api import Api, Passing, UnknownThere
from .errors import (
    MODEL,
    Billed,
    PaidJobError,
    RemoteCreditError,
    RemoteDownloadFailed,
    RemoteImageError,
    RemoteJobFailed,
    UnsafeAddressError,
)
from .images import check_files, decode_base64_output, decode_image
from .timing import Timing

Source = Literal["new", "resumed", "cache", "adopted"]

ADOPTED_WARNING = (
    "The answer to the request was lost; the prediction was found in the account's list. If another "
    "program used the account in that minute, this may be its picture."
)


@dataclass(frozen=True)
class Delivery:
    """A finished job.

    Attributes:
        images: (H, W, 3) uint8 each; normally one.
        files: The service's own bytes of each.
        source: "new": generated now; "resumed": found at the service; "cache": found on this
            machine; "adopted": found at the service by its time alone.
        facts: Every field of the service's answer, without signatures.
        total_s: Seconds this run took for it.
        warnings: What the user should know, in sentences.
    """

    prediction_id: str
    images: tuple[Pixels, ...] = field(repr=False)
    files: tuple[bytes, ...] = field(repr=False)
    source: Source
    facts: dict[str, Any] = field(default_factory=dict)
    total_s: float = 0.0
    warnings: tuple[str, ...] = ()

    def describe(self, width: int, height: int) -> dict[str, Any]:
        """The metadata of one of its images, that size, whoever asked for it."""
        return {
            **self.facts,
            "prediction_id": self.prediction_id,
            "nsfw": any(self.facts["has_nsfw_contents"]),
            "inference_ms": self.facts["timings"]["inference"],
            "total_ms": math.floor(self.total_s * 1000),
            "url": next(iter(self.facts["outputs"]), ""),
            "url_expires": expiry(self.facts["created_at"]),
            "size_actual": f"{width}*{height}",
            "source": self.source,
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True)
class Fetcher:
    """Downloads, checks, decodes and keeps pictures."""

    api: Api
    store: ResultStore
    clock: Clock
    timing: Timing

    def kept(self, prediction_id: str) -> Delivery | None:
        """A result that this machine still has, whole."""
        files, facts = self.store.load(prediction_id)
        prediction = parse_prediction(facts)
        try:
            check_files(files)
            images = tuple(map(decode_image, files))
        except RemoteImageError:
            return None
        if not images or prediction is None:
            return None
        facts = describe(prediction, self.api)
        return Delivery(prediction_id, images, tuple(files), "cache", facts)

    def fetch(
        self, prediction: Prediction, source: Source, cancelled: Cancelled
    ) -> tuple[Delivery, bool]:
        """The images of a completed prediction, and whether this machine keeps them.

        Raises:
            RemoteDownloadFailed: Not within the allowed attempts.
            RemoteImageError: Files that are no images within the limits.
        """
        for wait_s in self.timing.empty_outputs_s:
            if prediction.outputs:
                break
            self.clock.wait(wait_s, cancelled)
            prediction = self._anew(prediction, cancelled)
        if not prediction.outputs:
            raise RemoteDownloadFailed(prediction.id, "it is completed without outputs")
        files: list[bytes] = []
        images: list[Pixels] = []
        for index in range(len(prediction.outputs)):
            self._fetch_one(prediction, index, files, images, cancelled)
        facts = describe(prediction, self.api)
        is_kept = self.store.save(prediction.id, files, facts)
        warnings = _warnings(prediction, source)
        delivery = Delivery(
            prediction.id, tuple(images), tuple(files), source, facts, 0.0, warnings
        )
        return delivery, is_kept

    def _fetch_one(
        self,
        prediction: Prediction,
        index: int,
        files: list[bytes],
        images: list[Pixels],
        cancelled: Cancelled,
    ) -> None:
        """Add one output to files and images, within the limits of all together."""
        cause = ""
        for wait_s in (*self.timing.download_retry_s, None):
            try:
                data = self._bytes(prediction.outputs[index], cancelled)
                check_files([*files, data])
                images.append(decode_image(data))
            except (Passing, TransportError) as error:
                cause = error.cause
            except UnsafeAddressError as error:
                raise RemoteDownloadFailed(prediction.id, error.text) from None
            except RemoteImageError as error:
                if not error.damaged or wait_s is None:
                    raise RemoteImageError(error.reason, prediction.id) from None
            else:
                files.append(data)
                return
            if wait_s is not None:
                self.clock.wait(self.clock.jitter(wait_s), cancelled)
                # An address may have expired: the prediction names a fresh one.
                fresh = self._anew(prediction, cancelled)
                prediction = fresh if len(fresh.outputs) > index else prediction
        raise RemoteDownloadFailed(prediction.id, cause)

    def _anew(self, prediction: Prediction, cancelled: Cancelled) -> Prediction:
        """The prediction as it is described now; as before where the service forgot it."""
        try:
            return self.api.prediction(prediction.id, cancelled)
        except UnknownThere:
            return prediction

    def _bytes(self, output: str, cancelled: Cancelled) -> bytes:
        """The bytes of an output, which is an address or the image itself."""
        if not output.startswith(("http:", "https:")):
            data = decode_base64_output(output)
            if data is None:
                raise UnsafeAddressError("Refused an output that is neither https nor base64.")
            return data
        reply = self.api.download(output, cancelled)
        if reply.status != codes.OK:
            raise Passing(f"the file host answered {reply.status}")
        return reply.body


def _warnings(prediction: Prediction, source: Source) -> tuple[str, ...]:
    found = (
        (source == "adopted", ADOPTED_WARNING),
        (any(prediction.has_nsfw_contents), "WaveSpeed marks the image as not safe for work."),
        (
            prediction.model not in ("", MODEL),
            f"The prediction was made by another model than {MODEL}.",
        ),
        (prediction.dropped > 0, f"{prediction.dropped} further images were not fetched."),
    )
    return tuple(text for holds, text in found if holds)


def describe(prediction: Prediction, api: Api) -> dict[str, Any]:
    """Every field of the service's answer, for the metadata: no signatures, no image data."""
    return {
        "id": prediction.id,
        "model": api.clean(prediction.model),
        "outputs": [
            api.clean_address(output)
            if output.startswith("http")
            else f"base64, {len(output)} long"
            for output in prediction.outputs
        ],
        "urls": {
            api.clean(name, 40): api.clean_address(url)
            for name, url in list(prediction.urls.items())[:8]
        },
        "has_nsfw_contents": list(prediction.has_nsfw_contents[:8]),
        "status": api.clean(prediction.status, 40),
        "created_at": api.clean(prediction.created_at, 40),
        "error": api.clean(prediction.error),
        "timings": {"inference": prediction.inference_ms},
    }


def ended_error(prediction: Prediction, api: Api) -> PaidJobError:
    """The error for a prediction that ended without an image; asks what it really cost."""
    reason, code, status = api.clean(prediction.error), prediction.code, prediction.status
    billed = codes.TASK_BILLED.get(code or 0, Billed.REFUNDED)
    bill = ""
    try:
        (cost_usd,) = api.bills_usd([prediction.id]).values()
        billed = Billed.YES if cost_usd > 0 else Billed.NO
        bill = f"{billed.value} by WaveSpeed's account: ${cost_usd:.3f}"
    except (PaidJobError, ValueError):
        billed = billed if status == "failed" else Billed.MAYBE
    if code in codes.NO_CREDIT:
        return RemoteCreditError(
            "Not enough WaveSpeed credit for this image. Top up at wavespeed.ai.",
            prediction_id=prediction.id,
            billed=billed,
            bill=bill,
        )
    if status != "failed":
        text = f"WaveSpeed ended the task as {status}: {reason}"
    elif code in (1400, 1401):
        text = f"WaveSpeed rejected the inputs ({code}): {reason}"
    else:
        text = codes.REFUSALS.get(code or 0, f"Generation failed at WaveSpeed ({code}): {reason}")
    return RemoteJobFailed(text, prediction.id, code=code, status=status, billed=billed, bill=bill)
