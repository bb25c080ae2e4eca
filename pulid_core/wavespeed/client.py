"""One call from photos and prompts to images, for scripts and for the nodes.

client = WavespeedClient()
batch = client.generate("face.jpg", "a cinematic portrait", progress=terminal_progress)
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..paid_jobs.clock import Cancelled, Clock, never
from ..paid_jobs.crew import QUARTERS, Crew, OnProgress, Progress, Report, Result
from ..paid_jobs.journal import KEPT_S, OUTCOME_OPEN, Journal, Row, State, try_to_note
from ..paid_jobs.pacing import IMAGES_PER_MIN, Pacer
from ..paid_jobs.store import ResultStore
from ..paid_jobs.transport import Transport
from ..pixels import photo_pixels
from .answers import is_prediction_id, record
from .api import BASE_URL, Api, ApiLimits
from .batch import Account, Batch, Estimate, Listed, batch_error
from .credentials import ApiKey, find_key, small_text
from .delivery import Delivery, Fetcher
from .errors import JournalError, PaidJobError, RemoteAuthError, RemoteCancelled, RemoteInputError
from .jobs import RANDOM_SEED, Request, RunOptions, parse_size
from .planning import Plan, plan_run, quote
from .price_and_limits import LIST_PRICE_USD
from .runner import Runner
from .timing import Timing

RATE_VARIABLE = "WAVESPEED_IMAGES_PER_MIN"
SETTINGS_FILE = "settings.json"
COLLECTED_AT_ONCE = 4

_process_pacer = Pacer()

PhotoSource = str | PathLike[str] | Image.Image | NDArray[np.generic]


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
        self._transport = transport or Transport()
        self._base_url = base_url
        self._pacer = pacer
        self._environ = environ
        self.journal = Journal(self.state_dir, self._clock)
        self.store = ResultStore(self.state_dir / "results", self._clock)

    def generate(
        self,
        photo: PhotoSource | Sequence[PhotoSource],
        prompt: str | Sequence[str],
        *,
        size: str = "1024*1024",
        guidance_scale: float = 3.5,
        seed: int = RANDOM_SEED,
        output_format: str = "png",
        num_images: int = 1,
        max_cost_usd: float = 0.5,
        max_wait_s: float = 600,
        max_parallel: int = 2,
        on_partial_failure: Literal["raise", "keep_successful"] = "raise",
        force_rerun: bool = False,
        base64_output: bool = False,
        sync_mode: bool = False,
        cancel_at_service: bool = False,
        progress: OnProgress | None = None,
        cancelled: Cancelled = never,
    ) -> Batch:
        """Generate portraits of the person in a photo.

        Args:
            photo: One picture or several: the path of a file, a picture of Pillow's, or an array,
                (H, W, C), uint8 or floats in [0, 1].
            prompt: One prompt or several.
            size: Width and height in pixels, "1024*1024"; 256 to 1536 each.

        The others are fields of `Request`.

        Raises:
            As `run`.
        """
        width, height = parse_size(size)
        is_one = isinstance(photo, (str, PathLike, Image.Image, np.ndarray))
        photos = [photo_pixels(one) for one in ([photo] if is_one else photo)]
        request = Request(
            photos,
            [prompt] if isinstance(prompt, str) else prompt,
            width=width,
            height=height,
            guidance_scale=guidance_scale,
            seed=seed,
            output_format=output_format,
            num_images=num_images,
            base64_output=base64_output,
            sync_mode=sync_mode,
            max_cost_usd=max_cost_usd,
            max_wait_s=max_wait_s,
            max_parallel=max_parallel,
            on_partial_failure=on_partial_failure,
            force_rerun=force_rerun,
            cancel_at_service=cancel_at_service,
        )
        return self.run(request, progress=progress, cancelled=cancelled)

    def run(
        self, request: Request, *, progress: OnProgress | None = None, cancelled: Cancelled = never
    ) -> Batch:
        """Run a request: plan it, check its cost, and see its jobs through.

        Images that this machine or the service still has from an earlier run of the same request
        are collected, not paid for again.

        Raises:
            RemoteInputError, ReferenceImageError: An input that cannot be used.
            JournalError: The record of paid jobs cannot be kept or trusted; nothing was sent.
            RemoteBudgetExceeded: It would cost more than `max_cost_usd`.
            RemoteCancelled: `cancelled` said so.
            PaidJobError: The only job failed; which error says why.
            RemoteBatchFailed: Some of several jobs failed; the others are saved.
        """
        planned = self._plan(request, cancelled).within(request.max_cost_usd)
        total = QUARTERS * len(planned.unique)
        if progress:
            progress(Progress(planned.estimate.text, 0, total))
        crew = self._crew(planned, request)
        try:
            crew.supervise(progress, cancelled)
        except RemoteCancelled:
            raise RemoteCancelled(self._pending(list(planned.unique))) from None
        if crew.errors and (request.on_partial_failure == "raise" or not crew.results):
            raise batch_error(crew.errors, len(crew.results))
        batch = self._batch(planned, crew, cancelled)
        for key, delivery in crew.results.items():
            prediction_id = delivery.prediction_id
            try_to_note(partial(self.journal.move, key, State.DELIVERED, prediction_id))
        if request.seed == RANDOM_SEED and not crew.errors:
            self.journal.settle_draw(planned.run)
        if progress:
            progress(Progress(batch.summary, total, total))
        return batch

    def _crew(self, planned: Plan, request: Request) -> Crew[Delivery]:
        """Those who will do the jobs of a plan."""
        runner = planned.runner

        def work(key: str, report: Report, stop: Cancelled) -> Delivery:
            over_budget = planned.over_budget if key in planned.perhaps else None
            wishes = (request.max_wait_s, request.force_rerun, request.cancel_at_service)
            options = RunOptions(stop, report, *wishes, over_budget)
            with runner.pacer.running(request.max_parallel, stop):
                return runner.run(planned.unique[key], options)

        return Crew(list(planned.unique), request.max_parallel, work, self._clock)

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
            PaidJobError, RemoteBatchFailed: As `run`.
        """
        ids = list(dict.fromkeys(prediction_ids))
        if not ids or not all(map(is_prediction_id, ids)):
            raise RemoteInputError("Prediction ids are 8 to 128 letters, digits, '-' or '_' each.")
        runner = self._promptly(lambda _: self._runner(), cancelled)

        def work(name: str, report: Report, stop: Cancelled) -> Delivery:
            return runner.collect(name, RunOptions(stop, report, max_wait_s))

        crew = Crew(ids, COLLECTED_AT_ONCE, work, self._clock)
        crew.supervise(progress, cancelled)
        if crew.errors:
            raise batch_error(crew.errors, len(crew.results))
        batch = Batch(summary=f"{len(prediction_ids)} image(s), 0 new")
        for name in prediction_ids:
            batch.add(crew.results[name])
        return replace(batch, prediction_ids=ids)

    def list(self, cancelled: Cancelled = never) -> Sequence[Listed]:
        """What the account was billed for in the last 7 days, the newest first.

        Raises:
            RemoteAuthError: There is no key, or it was refused.
            RemoteUnavailable: The service cannot be asked.
        """
        return self._promptly(self._listed, cancelled)

    def _listed(self, cancelled: Cancelled) -> Sequence[Listed]:
        api = self._api(self._find_key())
        now = self._clock.wall()
        found = api.predictions([(now - KEPT_S - 86400, now + 86400)], cancelled)
        found.sort(key=lambda item: item.created_s or 0.0, reverse=True)
        try:
            bills = api.bills_usd([item.id for item in found], cancelled) if found else {}
        except (RemoteCancelled, RemoteAuthError):
            raise
        except PaidJobError:
            bills = {}
        return [
            Listed(
                item.id,
                api.clean(item.status, 40),
                api.clean(item.created_at, 40),
                bills.get(item.id),
                api.clean_address(next(iter(item.outputs), "")),
                self.journal.is_known(item.id),
            )
            for item in found
        ]

    def open_jobs(self) -> Sequence[Row]:
        """What this machine's record says was ordered, and not delivered within the last 7 days."""
        since = self._clock.wall() - KEPT_S
        return [row for row in self.journal.open_jobs() if row.submitted_at > since]

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
        return self._promptly(self._account, cancelled)

    def _account(self, cancelled: Cancelled) -> Account:
        try:
            key = self._find_key()
        except RemoteAuthError:
            return Account(None, LIST_PRICE_USD, quoted=False)
        api = self._api(key)
        balance_usd = api.balance_usd(cancelled)
        return Account(balance_usd, *quote(api, "1024*1024", cancelled))

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
        api = self._api(key, private)
        return Runner(
            api,
            self.journal,
            Fetcher(api, self.store, self._clock, self._timing),
            self._pacer or self._shared_pacer(),
            self.journal.account_tag(key.to_bytes()),
            self._clock,
            self._timing,
        )

    def _shared_pacer(self) -> Pacer:
        """The process's pacer, at the rate that the settings allow now."""
        text = self._environ.get(RATE_VARIABLE, "")
        if not text:
            try:
                settings = json.loads(small_text(self.state_dir / SETTINGS_FILE))
                text = str(record(settings).get("images_per_min", ""))
            except (ValueError, RecursionError):
                text = ""
        rate = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else IMAGES_PER_MIN
        _process_pacer.images_per_min = max(1, rate)
        return _process_pacer

    def _plan(self, request: Request, cancelled: Cancelled) -> Plan:
        """Everything that is decided before anything is uploaded."""
        request.check()

        def plan(stop: Cancelled) -> Plan:
            return plan_run(request, self._runner(request.prompts), stop)

        return self._promptly(plan, cancelled)

    def _promptly(self, work: Callable[[Cancelled], Result], cancelled: Cancelled) -> Result:
        """Do what neither orders nor fetches, and leave it behind at a cancel.

        Nothing can interrupt a name server that is slow, or another program that is writing.
        """
        crew = Crew([""], 1, lambda _name, _report, stop: work(stop), self._clock)
        crew.supervise(None, cancelled)
        for error in crew.errors.values():
            raise error
        return crew.results[""]

    def _pending(self, keys: Sequence[str]) -> int:
        """How many jobs have, or may have, a prediction that was not fetched."""
        try:
            rows = [self.journal.find(key) for key in keys]
        except JournalError:
            return 0
        states = (*OUTCOME_OPEN, State.ACCEPTED, State.COMPLETED)
        return sum(1 for row in rows if row and row.state in states)

    def _batch(self, planned: Plan, crew: Crew[Delivery], cancelled: Cancelled) -> Batch:
        batch = Batch(failures=[str(error) for error in crew.errors.values()])
        for job in planned.jobs:
            if job.key in crew.results:
                batch.add(crew.results[job.key], job)
        for facts in batch.metadata:
            facts["price_usd_quoted"] = planned.estimate.price_usd
        summary = planned.summary(crew.results.values(), len(batch.images), cancelled)
        return replace(batch, summary=summary)
