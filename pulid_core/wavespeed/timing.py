"""Every waiting period of the remote half by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from statistics import median


@dataclass(frozen=True)
class Timing:
    """Waiting periods, all in seconds."""

    look_s: float = 0.5
    """Between looks while a picture may come at any moment: half of that is wasted on average."""
    patient_look_s: float = 1
    """After `patient_after_s`, or twice the usual time."""
    patient_after_s: float = 10
    slow_look_s: float = 5
    slow_after_s: float = 60
    sure_share: float = 0.9
    """Of the shortest time seen for that size; nothing is finished before."""
    queued_look_s: float = 8
    """Between looks at a prediction that has been waiting in the queue for `slow_after_s`."""
    last_look_s: float = 10
    """How long a look that began within the longest wait may be repeated beyond it."""
    empty_outputs_s: tuple[float, ...] = (2, 2)
    """Extra looks at a completed prediction without outputs."""
    read_retry_s: tuple[float, ...] = (1, 2, 4, 8, 16)
    """Between attempts of a request that changes nothing."""
    connect_retry_s: tuple[float, ...] = (1, 2, 4)
    """Between attempts of a submission that never left this machine."""
    download_retry_s: tuple[float, ...] = (1, 2, 4, 8)
    rate_limit_s: float = 61
    """After a 429 without Retry-After."""
    rate_limit_resends: int = 2
    retry_after_max_s: float = 120
    not_found_grace_s: float = 15
    """How long after its submission a prediction may still be unknown to the service."""
    stuck_after_s: float = 3600
    """How long a prediction may run before force_rerun gives it up."""
    reconcile_s: tuple[float, ...] = (5, 15, 30)
    """When to look for a lost submission, counted from its end."""
    reconcile_before_s: float = 30
    reconcile_after_s: float = 150
    """The window around a POST in which the service may have dated it."""
    apart_s: float = 5
    """How far the service's date of a prediction may be from its POST when several are told apart."""

    def looks(self, seen_s: Sequence[float]) -> Iterator[float]:
        """The waits before each look at a prediction, given how long earlier ones took."""
        first_s = self.sure_share * min(seen_s) if seen_s else self.look_s
        usual_s = max(self.patient_after_s, 2 * median(seen_s) if seen_s else 0)
        yield first_s
        at_s = first_s
        while at_s < self.slow_after_s:
            wait_s = self.look_s if at_s < usual_s else self.patient_look_s
            at_s += wait_s
            yield wait_s
        yield from repeat(self.slow_look_s)
