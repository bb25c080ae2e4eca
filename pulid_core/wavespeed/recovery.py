"""Finding a prediction whose answer was lost, in the service's list of the last 7 days.

The list may tell what each prediction was asked for, and then that is proof. Where it does not, only
times are left. What they cannot tell apart is not guessed: the user gets the ids to choose from.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..paid_jobs.clock import Cancelled, Clock
from ..paid_jobs.journal import Journal, Row
from .answers import Prediction
from .api import Api
from .delivery import Source
from .errors import PaidJobError, RemoteCancelled, RemoteOutcomeUnknown
from .jobs import Job
from .timing import Timing

LOGGER = logging.getLogger(__name__)

_EVERYTHING = (0.0, 4e9)


Found = tuple[Prediction, Source]
"""A prediction that was lost: "resumed" where its inputs are the job's, "adopted" where only its time fits."""


@dataclass(frozen=True)
class Recovery:
    """The search, for one account; whoever calls it holds the account's lock for submissions.

    One POST at a time leaves this machine, and a lost one is looked for before the next: the list,
    minus the record, holds what was lost, and what other programs of the account did.
    """

    api: Api
    journal: Journal
    account: str
    clock: Clock
    timing: Timing

    def settle_others(self, job: Job, cancelled: Cancelled) -> None:
        """Look for what crashed programs had lost, as long as nothing new is in the list."""
        self.journal.close_crashed(self.account)
        for row in self.journal.unsettled(self.account):
            if row.key != job.key and not row.looked:
                try:
                    self.find(None, row, "", cancelled)
                except RemoteOutcomeUnknown as error:
                    LOGGER.info("A lost WaveSpeed prediction stays open: %s", error)

    def find(self, job: Job | None, row: Row, cause: str, cancelled: Cancelled) -> Found | None:
        """The prediction of a lost answer, now on record; None when the list held none in time.

        Args:
            job: What was asked for; None when only its row is known.

        Raises:
            RemoteOutcomeUnknown: Several could be it, or the service's list cannot be read.
        """
        passed_s = max(0.0, self.clock.wall() - (row.ended_at or row.submitted_at))
        candidates: list[str] = []
        looks = self._looks(passed_s)
        for look_s, by_service in [(look_s, True) for look_s in looks] + [(looks[-1], False)]:
            self.clock.wait(look_s - passed_s, cancelled)
            passed_s = look_s
            found, candidates = self._look(job, row, cause, cancelled, by_service=by_service)
            if found:
                prediction, source = found
                self.journal.accepted(row.key, prediction.id, adopted=source == "adopted")
                LOGGER.info("WaveSpeed prediction %s found", prediction.id)
                return found
        if candidates:
            raise RemoteOutcomeUnknown(cause, candidates)
        self.journal.looked(row.key)
        return None

    def _looks(self, passed_s: float) -> list[float]:
        """When to look, counted from the end of the POST; at least once, now."""
        return [look_s for look_s in self.timing.reconcile_s if look_s > passed_s] or [passed_s]

    def _look(
        self, job: Job | None, row: Row, cause: str, cancelled: Cancelled, *, by_service: bool
    ) -> tuple[Found | None, list[str]]:
        """This row's prediction, or the ids of those that nobody here owns and that may be it."""
        try:
            listed = self.api.predictions(self._windows(row), cancelled, by_service=by_service)
        except RemoteCancelled:
            raise
        except PaidJobError as error:
            raise RemoteOutcomeUnknown(f"{cause}; the list of predictions: {error.text}") from None
        unowned = [item for item in listed if not self.journal.is_known(item.id)]
        if job is None and any(item.inputs for item in unowned):
            # It may be one of these: for a run that knows its inputs.
            return None, [item.id for item in unowned]
        matches = {item.id: self._compare(job, item) for item in unowned}
        same = [item for item in unowned if matches[item.id]]
        if same and len({_photo_address(item) for item in same}) == 1:
            # Asked for with one photo, prompt and seed, any of them is the picture.
            return (same[0], "resumed"), []
        untold = [item for item in unowned if matches[item.id] is None]
        return (None, [item.id for item in same]) if same else self._by_time(row, untold)

    def _compare(self, job: Job | None, item: Prediction) -> bool | None:
        match = job.was_asked(item.inputs) if job else None
        address = _photo_address(item)
        photo = self.journal.photo_at(address, self.account) if job and address else None
        return False if job and photo not in (None, job.photo.digest) else match

    def _windows(self, row: Row) -> list[tuple[float, float]]:
        """When the prediction may be dated, by this machine's clock and by the service's."""
        if row.served_at is None and row.place:
            return [_EVERYTHING]  # the service had told no clock, and ours may have been wrong
        lasted_s = (row.ended_at or row.submitted_at) - row.submitted_at
        after_s = max(self.timing.reconcile_after_s, self.timing.reconcile_before_s + lasted_s)
        starts = sorted({row.submitted_at, row.served_at or row.submitted_at})
        windows = [(at - self.timing.reconcile_before_s, at + after_s) for at in starts]
        is_one = len(windows) == 2 and windows[0][1] >= windows[1][0]
        return [(windows[0][0], windows[1][1])] if is_one else windows

    def _by_time(self, row: Row, untold: Sequence[Prediction]) -> tuple[Found | None, list[str]]:
        """This row's of the predictions whose inputs are not told, or those that may be it.

        It is one's own when no other lost POST can have made it; or when as many predictions as
        lost POSTs stand in an order that is certain on both sides.
        """
        rivals = [
            other
            for other in self.journal.unsettled(self.account)
            if other.key == row.key or not other.looked
        ]
        owners = {
            item.id: [rival.key for rival in rivals if self._is_close(item, rival)]
            for item in untold
        }
        mine = [item for item in untold if row.key in owners[item.id]]
        if len(mine) == 1 and owners[mine[0].id] == [row.key]:
            return (mine[0], "adopted"), []
        if mine:
            keys = owners[mine[0].id]
            group = [item for item in untold if owners[item.id] == keys]
            if len(group) == len(mine) == len(keys) and _are_apart(group, rivals, keys):
                group.sort(key=lambda item: item.created_s or 0.0)
                return (group[keys.index(row.key)], "adopted"), []
        # What is close to nobody may be anybody's.
        return None, [item.id for item in untold if item in mine or not owners[item.id]]

    def _is_close(self, item: Prediction, row: Row) -> bool:
        """Whether it is dated while the POST was under way, by either clock."""
        if item.created_s is None or row.ended_at is None:
            return True
        lasted_s = row.ended_at - row.submitted_at
        slack_s = self.timing.apart_s
        starts = (row.submitted_at, row.served_at or row.submitted_at)
        return any(-slack_s <= item.created_s - at <= lasted_s + slack_s for at in starts)


def _are_apart(group: Sequence[Prediction], rivals: Sequence[Row], keys: Sequence[str]) -> bool:
    """Whether the order of the POSTs and of the predictions is certain: no two could have met."""
    rows = [rival for rival in rivals if rival.key in keys]
    in_turn = all(
        first.ended_at is not None and first.place > 0 and first.ended_at <= second.submitted_at
        for first, second in pairwise(rows)
    )
    dates = {item.created_s for item in group}
    return in_turn and None not in dates and len(dates) == len(group)


def _photo_address(item: Prediction) -> str:
    """The address of the photo that a listed prediction was asked for with; empty if untold."""
    return str((item.inputs or {}).get("image", ""))
