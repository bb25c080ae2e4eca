"""From a request to its jobs and their price: everything that is decided before anything is sent."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..paid_jobs.clock import Cancelled
from .api import Api
from .batch import Estimate
from .delivery import Delivery
from .errors import PaidJobError, RemoteAuthError, RemoteBudgetExceeded, RemoteCancelled
from .images import encode_photo
from .jobs import RANDOM_SEED, Job, Request, plan_jobs, run_key
from .price_and_limits import LIST_PRICE_USD
from .runner import Runner

LOGGER = logging.getLogger(__name__)

PRICE_KEPT_S = 24 * 3600


@dataclass(frozen=True)
class Plan:
    """A request, decided: `unique` holds each different job once, by its key.

    Attributes:
        over_budget: Why jobs that are perhaps paid already may not order anything, if they may not.
        perhaps: The keys of those jobs.
    """

    runner: Runner
    run: str
    jobs: list[Job]
    unique: dict[str, Job]
    estimate: Estimate
    perhaps: frozenset[str]
    over_budget: RemoteBudgetExceeded | None = None

    def within(self, max_cost_usd: float) -> Plan:
        """The plan, in which nothing is ordered whose price does not fit.

        Raises:
            RemoteBudgetExceeded: What is surely new does not fit.
        """
        estimate, limit_usd = self.estimate, max_cost_usd + 1e-9
        if estimate.cost_usd <= limit_usd:
            return self
        surely = estimate.new - estimate.perhaps
        if surely * estimate.price_usd > limit_usd or not estimate.perhaps:
            raise RemoteBudgetExceeded(estimate.new, estimate.cost_usd, max_cost_usd)
        error = RemoteBudgetExceeded(estimate.new, estimate.cost_usd, max_cost_usd, found_none=True)
        return replace(self, over_budget=error)

    def summary(self, deliveries: Iterable[Delivery], images: int, cancelled: Cancelled) -> str:
        """What its run did and cost, and what is left."""
        new = sum(1 for delivery in deliveries if delivery.source == "new")
        estimate = replace(self.estimate, images=images, new=new)
        text = estimate.text.replace("image(s)", "image" if images == 1 else "images")
        try:
            balance_usd = self.runner.api.balance_usd(cancelled, patient=False) if new else None
        except PaidJobError:
            balance_usd = None
        return text if balance_usd is None else f"{text}, balance ${balance_usd:.2f}"


def plan_run(request: Request, runner: Runner, cancelled: Cancelled) -> Plan:
    """Decide what a checked request runs, and ask what that costs."""
    photos = [encode_photo(photo) for photo in request.photos]
    run = run_key(request, photos, runner.account)
    seed = runner.journal.draw_seed(run) if request.seed == RANDOM_SEED else request.seed
    jobs = plan_jobs(request, photos, seed, runner.account)
    unique = {job.key: job for job in jobs}
    orders = {key: runner.orders(job, force=request.force_rerun) for key, job in unique.items()}
    new = [key for key, is_new in orders.items() if is_new is not False]
    perhaps = frozenset(key for key, is_new in orders.items() if is_new is None)
    price_usd, quoted = LIST_PRICE_USD, False
    if new:
        price_usd, quoted = _price(runner, request.size, cancelled)
    estimate = Estimate(len(jobs), len(new), len(perhaps), price_usd, quoted)
    return Plan(runner, run, jobs, unique, estimate, perhaps)


def _price(runner: Runner, size: str, cancelled: Cancelled) -> tuple[float, bool]:
    """The price of one image of a size on this account, quoted within a day or now."""
    name = f"price {runner.account} {size}"
    known = runner.journal.fact(name, PRICE_KEPT_S)
    if known is not None and known >= 0:
        return known, True
    price_usd, quoted = quote(runner.api, size, cancelled)
    if quoted:
        runner.journal.note_fact(name, price_usd)
    return price_usd, quoted


def quote(api: Api, size: str, cancelled: Cancelled) -> tuple[float, bool]:
    """The price of one image of a size, and whether the service quoted it; else the list price.

    Raises:
        RemoteCancelled, RemoteAuthError: As `Api.price_usd`.
    """
    try:
        return api.price_usd({"size": size}, cancelled), True
    except (RemoteCancelled, RemoteAuthError):
        raise
    except PaidJobError as error:
        LOGGER.warning("The list price is used, as WaveSpeed quotes none: %s", error)
        return LIST_PRICE_USD, False
