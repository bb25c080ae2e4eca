"""One call from photos and prompts to images, for scripts and for the nodes.

client = WavespeedClient()
batch = client.generate(photo, "a cinematic portrait", progress=terminal_progress)
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import RemoteError
from .api import BASE_URL, Api, ApiLimits, is_prediction_id
from .clock import Cancelled, Clock, Timing, never
from .credentials import ApiKey, find_key
from .errors import (
    JournalError,
    RemoteAuthError,
    RemoteBatchFailed,
    RemoteBudgetExceeded,
    RemoteCancelled,
    RemoteInputError,
    WaveSpeedError,
)
from .images import resize_image
from .jobs import RANDOM_SEED, Job, Request, encode_photos, parse_size, plan, run_key
from .journal import KEPT_S, OUTCOME_OPEN, Journal, State
from .pacing import IMAGES_PER_MIN, RATE_VARIABLE, Pacer
from .runner import Delivery, Order, Runner
from .store import ResultStore
from .transport import Transport

LOGGER = logging.getLogger(__name__)

LIST_PRICE_USD = 0.02  # the model's page; used when no quote can be had
SETTINGS_FILE = "settings.json"
SUPERVISION_S = 0.1

_STAGES_DONE = {"uploading": 0, "submitting": 1, "created": 2, "processing": 2, "downloading": 3}
QUARTERS = 4

_process_pacer = Pacer()


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        text: One line for people; no prompt in it.
        done: Quarters of jobs that are done, 0 to `total`.
        total: Four per job.
    """

    text: str
    done: int
    total: int


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Estimate:
    """What a request would cost, before anything is sent.

    Attributes:
        images: How many images it gives.
        new: How many of them would be generated and billed.
        price_usd: The price of one.
        quoted: True when the service quoted the price, False for the list price.
    """

    images: int
    new: int
    price_usd: float
    quoted: bool

    @property
    def cost_usd(self) -> float:
        """What the new images cost together, US dollars."""
        return self.new * self.price_usd


@dataclass(frozen=True)
class Batch:
    """The images of a request, in the order photo, prompt, seed.

    Attributes:
        images: (H, W, 3) each, float32 in [0, 1], all of the requested size.
        metadata: One dictionary per image: the job, the service's answer, warnings.
        prediction_ids: One per job; feed them to `collect`.
        failures: Texts of the jobs that gave no image, with `keep_successful`.
    """

    images: list[NDArray[np.float32]] = field(repr=False)
    metadata: list[dict[str, Any]] = field(repr=False)
    prediction_ids: list[str]
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Account:
    """What an account can do.

    Attributes:
        key_found: Whether there is a key; never the key.
        balance_usd: Its credit, or None without a key.
        price_usd: The price of one image.
        quoted: True when the service quoted the price.
    """

    key_found: bool
    balance_usd: float | None
    price_usd: float
    quoted: bool


@dataclass(frozen=True)
class _Plan:
    """A request, decided: `unique` holds each different job once, by its key."""

    runner: Runner
    run: str
    jobs: list[Job]
    unique: dict[str, Job]
    estimate: Estimate


class WavespeedClient:
    """WaveSpeedAI's FLUX-PuLID for one state folder.

    Args:
        state_dir: Journal, results of the last 7 days, and optionally the key, in files of the
            owner only. Two clients with one folder share them, in any number of processes.
        api_key: Instead of WAVESPEED_API_KEY or the file `api_key` in the folder. Those two are
            read at every run.
        transport: Sends the requests; the default speaks https to public addresses only.
        base_url: Only for a service run by hand, together with a transport that trusts it.
        pacer: How often to submit; the default is shared by the process and allows what a new
            account may do, or WAVESPEED_IMAGES_PER_MIN, or `images_per_min` in `settings.json`.
    """

    def __init__(
        self,
        state_dir: Path | str | None = None,
        *,
        api_key: str | None = None,
        transport: Transport | None = None,
        base_url: str = BASE_URL,
        clock: Clock | None = None,
        timing: Timing | None = None,
        limits: ApiLimits | None = None,
        pacer: Pacer | None = None,
        environ: Mapping[str, str] = os.environ,
    ):
        self.state_dir = Path(state_dir or Path.home() / ".wavespeed_flux_pulid")
        self._key = ApiKey(api_key) if api_key else None
        self._clock = clock or Clock()
        self._timing = timing or Timing()
        self._limits = limits or ApiLimits()
        self._transport = transport or Transport(wall=self._clock.wall)
        self._base_url = base_url
        self._pacer = pacer
        self._environ = environ
        self.journal = Journal(self.state_dir, self._clock)
        self._store = ResultStore(self.state_dir / "results", self._clock)

    def generate(
        self,
        photo: NDArray[np.generic] | Sequence[NDArray[np.generic]],
        prompt: str | Sequence[str],
        *,
        size: str = "1024*1024",
        progress: OnProgress | None = None,
        cancelled: Cancelled = never,
        **options: Any,
    ) -> Batch:
        """Generate portraits of the person in a photo.

        Args:
            photo: One picture or several, each (H, W, C), floats in [0, 1] or uint8.
            prompt: One prompt or several.
            size: Width and height in pixels, "1024*1024"; 256 to 1536 each.
            options: The other fields of `Request`.

        Raises:
            As `run`.
        """
        width, height = parse_size(size)
        photos = [photo] if isinstance(photo, np.ndarray) else photo
        prompts = [prompt] if isinstance(prompt, str) else prompt
        request = Request(photos, prompts, width=width, height=height, **options)
        return self.run(request, progress=progress, cancelled=cancelled)

    def run(
        self,
        request: Request,
        *,
        progress: OnProgress | None = None,
        cancelled: Cancelled = never,
    ) -> Batch:
        """Run a request: plan it, check its cost, and see its jobs through.

        Images that this machine or the service still has from an earlier run of the same request
        are collected, not paid for again.

        Raises:
            RemoteInputError, ReferenceImageError: An input that cannot be used.
            RemoteBudgetExceeded: It would cost more than `max_cost_usd`.
            RemoteCancelled: `cancelled` said so.
            WaveSpeedError: The only job failed; which error says why.
            RemoteBatchFailed: Some of several jobs failed; the others are saved.
        """
        planned = self._plan(request, cancelled)
        estimate = planned.estimate
        if estimate.cost_usd > request.max_cost_usd + 1e-9:
            raise RemoteBudgetExceeded(estimate.new, estimate.cost_usd, request.max_cost_usd)
        if progress:
            text = f"{estimate.images} image(s), {estimate.new} new, about ${estimate.cost_usd:.2f}"
            progress(Progress(text, 0, QUARTERS * len(planned.unique)))
        crew = self._crew(planned, request)
        try:
            crew.supervise(progress, cancelled)
        except RemoteCancelled:
            raise RemoteCancelled(self._pending(list(planned.unique))) from None
        if crew.errors and (request.on_partial_failure == "raise" or not crew.results):
            raise _batch_error(crew.errors, len(crew.results))
        batch = self._batch(planned.jobs, crew, estimate)
        self._note_delivered(crew.results)
        if request.seed == RANDOM_SEED and not crew.errors:
            self.journal.settle_draw(planned.run)
        return batch

    def _crew(self, planned: _Plan, request: Request) -> _Crew:
        """Those who will do the jobs of a plan."""
        runner = planned.runner

        def work(key: str, report: Callable[[str, str | None], None], stop: Cancelled) -> Delivery:
            order = Order(
                stop,
                report,
                request.max_wait_s,
                request.base64_output,
                request.sync_mode,
                request.force_rerun,
            )
            with runner.pacer.running(request.max_parallel, stop):
                return runner.run(planned.unique[key], order)

        return _Crew(list(planned.unique), request.max_parallel, work, self._clock)

    def collect(
        self,
        prediction_ids: Sequence[str],
        *,
        max_wait_s: float = 600,
        progress: OnProgress | None = None,
        cancelled: Cancelled = never,
    ) -> Batch:
        """Fetch predictions by their ids; nothing is ever submitted or billed.

        Raises:
            RemoteInputError: Something that is no prediction id.
            WaveSpeedError, RemoteBatchFailed: As `run`.
        """
        ids = list(dict.fromkeys(prediction_ids))
        if not ids or not all(map(is_prediction_id, ids)):
            raise RemoteInputError("Prediction ids are 8 to 128 letters, digits, '-' or '_' each.")
        runner = self._runner()

        def work(name: str, report: Callable[[str, str | None], None], stop: Cancelled) -> Delivery:
            return runner.collect(name, Order(stop, report, max_wait_s, base64_output=True))

        crew = _Crew(ids, 4, work, self._clock)
        crew.supervise(progress, cancelled)
        if crew.errors:
            raise _batch_error(crew.errors, len(crew.results))
        images, metadata = [], []
        for name in prediction_ids:
            delivery = crew.results[name]
            for image in delivery.images:
                images.append(image)
                metadata.append(_delivery_facts(delivery, image))
        return Batch(images, metadata, ids)

    def estimate(self, request: Request, cancelled: Cancelled = never) -> Estimate:
        """What a request would cost now; nothing but the price query is sent.

        Raises:
            RemoteInputError, ReferenceImageError: An input that cannot be used.
            RemoteAuthError: There is no key.
        """
        return self._plan(request, cancelled).estimate

    def account(self, cancelled: Cancelled = never) -> Account:
        """Whether a key is found, the balance and the price of one image.

        Raises:
            RemoteAuthError: The key was refused.
            RemoteUnavailable: The service cannot be asked.
        """
        try:
            api = self._api(self._find_key())
        except RemoteAuthError:
            return Account(False, None, LIST_PRICE_USD, False)
        balance_usd = api.balance_usd(cancelled)
        price_usd, quoted = self._price(api, {}, cancelled)
        return Account(True, balance_usd, price_usd, quoted)

    def _find_key(self) -> ApiKey:
        return self._key or find_key(self.state_dir, self._environ)

    def _api(self, key: ApiKey, private: Sequence[str] = ()) -> Api:
        return Api(
            key,
            self._transport,
            base_url=self._base_url,
            clock=self._clock,
            timing=self._timing,
            limits=self._limits,
            private=private,
        )

    def _runner(self, private: Sequence[str] = ()) -> Runner:
        key = self._find_key()
        return Runner(
            self._api(key, private),
            self.journal,
            self._store,
            self._pacer or self._shared_pacer(),
            self.journal.account_tag(key),
            self._clock,
            self._timing,
        )

    def _shared_pacer(self) -> Pacer:
        """The process's pacer, at the rate that the settings allow now."""
        text = self._environ.get(RATE_VARIABLE, "")
        if not text:
            try:
                settings = json.loads((self.state_dir / SETTINGS_FILE).read_text("utf-8"))
                text = str(settings.get("images_per_min", "")) if isinstance(settings, dict) else ""
            except (OSError, ValueError):
                text = ""
        rate = int(text) if text.isascii() and text.isdigit() else IMAGES_PER_MIN
        _process_pacer.images_per_min = max(1, rate)
        return _process_pacer

    def _plan(self, request: Request, cancelled: Cancelled) -> _Plan:
        """Everything that is decided before anything is uploaded."""
        request.check()
        runner = self._runner(request.prompts)
        photos = encode_photos(request)
        run = run_key(request, photos, runner.account)
        seed = self.journal.draw_seed(run) if request.seed == RANDOM_SEED else request.seed
        jobs = plan(request, photos, seed, runner.account)
        unique = {job.key: job for job in jobs}
        new = [job for job in unique.values() if runner.is_new(job, force=request.force_rerun)]
        price_usd, quoted = self.journal.price_usd() or LIST_PRICE_USD, False
        if new:
            price_usd, quoted = self._price(runner.api, {"size": new[0].size}, cancelled)
        return _Plan(runner, run, jobs, unique, Estimate(len(jobs), len(new), price_usd, quoted))

    def _price(
        self, api: Api, inputs: Mapping[str, Any], cancelled: Cancelled
    ) -> tuple[float, bool]:
        """The price of one image, quoted within the last day or now, else the list price."""
        known = self.journal.price_usd()
        if known is not None:
            return known, True
        try:
            price_usd = api.price_usd(inputs, cancelled)
        except (RemoteCancelled, RemoteAuthError):
            raise
        except WaveSpeedError as error:
            LOGGER.warning("The list price is used, as WaveSpeed quotes none: %s", error)
            return LIST_PRICE_USD, False
        self.journal.note_price(price_usd)
        return price_usd, True

    def _pending(self, keys: Sequence[str]) -> int:
        """How many jobs have, or may have, a running prediction."""
        rows = [self.journal.find(key) for key in keys]
        states = (*OUTCOME_OPEN, State.ACCEPTED)
        return sum(1 for row in rows if row and row.state in states)

    def _note_delivered(self, deliveries: Mapping[str, Delivery]) -> None:
        for key, delivery in deliveries.items():
            try:
                self.journal.move(key, State.DELIVERED, delivery.prediction_id)
            except JournalError as error:
                LOGGER.warning("A delivered WaveSpeed image is not on record: %s", error)

    def _batch(self, jobs: Sequence[Job], crew: _Crew, estimate: Estimate) -> Batch:
        batch = Batch([], [], [], [str(error) for error in crew.errors.values()])
        for job in jobs:
            delivery = crew.results.get(job.key)
            if delivery is None:
                continue
            batch.prediction_ids.append(delivery.prediction_id)
            for image in delivery.images:
                facts = _delivery_facts(delivery, image)
                facts |= {
                    "seed": job.seed,
                    "prompt_index": job.prompt_index,
                    "image_index": job.image_index,
                    "size_requested": job.size,
                    "guidance_scale": job.guidance_scale,
                    "output_format": job.output_format,
                    "price_usd_quoted": estimate.price_usd,
                    "journal": self.journal.durable,
                }
                facts["warnings"] += job.photo.warnings
                if image.shape[:2] != (job.height, job.width):
                    facts["warnings"].append(
                        f"The image came as {facts['size_actual']} and was resampled."
                    )
                    image = resize_image(image, job.width, job.height)
                batch.images.append(image)
                batch.metadata.append(facts)
        return batch


class _Crew:
    """Threads that work on named jobs, and the one that watches them."""

    def __init__(
        self,
        names: Sequence[str],
        at_once: int,
        work: Callable[[str, Callable[[str, str | None], None], Cancelled], Delivery],
        clock: Clock,
    ):
        self.results: dict[str, Delivery] = {}
        self.errors: dict[str, RemoteError] = {}
        self._names = names
        self._at_once = at_once
        self._work = work
        self._clock = clock
        self._stop = threading.Event()
        self._is_daemon = threading.current_thread().daemon
        self._stages: dict[str, tuple[str, str | None]] = {}

    def supervise(self, progress: OnProgress | None, cancelled: Cancelled) -> None:
        """Return when every job has a result or an error.

        Raises:
            RemoteCancelled: `cancelled` said so. Threads stop by themselves, the one with a POST
                on the way after it has noted the prediction.
        """
        futures: dict[Future[Delivery], str] = {Future(): name for name in self._names}
        waiting = deque(futures.items())
        try:
            # No pool: Python's own end waits for a pool's threads before they can know of it.
            for _ in range(min(self._at_once, len(waiting))):
                threading.Thread(target=self._work_off, args=[waiting], name="wavespeed").start()
            started = self._clock.monotonic()
            while futures:
                done, _ = wait(futures, timeout=SUPERVISION_S, return_when=FIRST_COMPLETED)
                for future in done:
                    self._note(futures.pop(future), future, futures)
                if cancelled() or self._is_stopped():
                    raise RemoteCancelled
                if progress:
                    progress(self._progress(self._clock.monotonic() - started))
        finally:
            self._stop.set()

    def _work_off(self, waiting: deque[tuple[Future[Delivery], str]]) -> None:
        """Do what is waiting, until nothing is or everything stops."""
        while not self._is_stopped():
            try:
                future, name = waiting.popleft()
            except IndexError:
                return
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(self._do(name))
                except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
                    future.set_exception(error)

    def _do(self, name: str) -> Delivery:
        def report(stage: str, prediction_id: str | None) -> None:
            self._stages[name] = stage, prediction_id

        return self._work(name, report, self._is_stopped)

    def _is_stopped(self) -> bool:
        """Whether to stop: asked to, or Python ends and takes the watching thread with it."""
        is_dying = self._is_daemon and not threading.main_thread().is_alive()
        return is_dying or self._stop.is_set()

    def _note(
        self, name: str, future: Future[Delivery], waiting: dict[Future[Delivery], str]
    ) -> None:
        try:
            self.results[name] = future.result()
        except RemoteError as error:
            self.errors[name] = error
            if isinstance(error, WaveSpeedError) and error.stops_batch:
                # The jobs that have not started would fail alike.
                for other in [other for other in waiting if other.cancel()]:
                    self.errors[waiting.pop(other)] = error

    def _progress(self, elapsed_s: float) -> Progress:
        finished = len(self.results) + len(self.errors)
        done = QUARTERS * finished
        line = [f"{finished}/{len(self._names)}"]
        # The threads add stages meanwhile.
        for name, (stage, prediction_id) in list(self._stages.items()):
            if name in self.results or name in self.errors:
                continue
            done += _STAGES_DONE.get(stage, 0)
            line[1:] = [stage, f"{elapsed_s:.0f} s"]
            if prediction_id:
                line.append(f"id …{prediction_id[-4:]}")
        return Progress(" · ".join(line), done, QUARTERS * len(self._names))


def terminal_progress(progress: Progress) -> None:
    """Show the progress on one line of the terminal."""
    end = "\n" if progress.done == progress.total else ""
    sys.stderr.write(f"\r\033[K{progress.text}{end}")
    sys.stderr.flush()


def _batch_error(errors: Mapping[str, RemoteError], finished: int) -> RemoteError:
    first = next(iter(errors.values()))
    if finished == 0 and len({id(error) for error in errors.values()}) == 1:
        return first
    return RemoteBatchFailed(list(errors.values()), finished)


def _delivery_facts(delivery: Delivery, image: NDArray[np.float32]) -> dict[str, Any]:
    """The metadata of an image that does not depend on who asked for it."""
    height, width = image.shape[:2]
    answer = delivery.facts
    return {
        **answer,
        "prediction_id": delivery.prediction_id,
        "nsfw": any(answer.get("has_nsfw_contents", ())),
        "inference_ms": answer.get("timings", {}).get("inference"),
        "total_ms": math.floor(delivery.total_s * 1000),
        "url": next(iter(answer.get("outputs", ())), ""),
        "url_expires": _expiry(answer.get("created_at", "")),
        "size_actual": f"{width}*{height}",
        "source": delivery.source,
        "warnings": list(delivery.warnings),
    }


def _expiry(created_at: str) -> str:
    """About when the service deletes a prediction, as an ISO time; empty when unknown."""
    try:
        created = datetime.fromisoformat(created_at.replace("Z", "+00:00"))
        return (created.astimezone(timezone.utc) + timedelta(seconds=KEPT_S)).isoformat()
    except (ValueError, OverflowError):
        return ""
