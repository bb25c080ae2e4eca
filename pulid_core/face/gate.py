"""Which pictures look like a person: those that reach a similarity, the best ones first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..images import Photo
from .similarity import Comparison

PLAIN = "the picture is one plain colour"
FACELESS = "no face was found, nor with a border around the picture, turned, or in parts of it"


@dataclass(frozen=True)
class Verdict:
    """What the gate says of one picture."""

    index: int
    """Which picture, from 0, in the order they came."""
    score: float | None
    """Cosine of the face that resembles the person most; None where there is no face to compare."""
    reason: str = ""
    """Why the picture is rejected; empty for an accepted one."""

    @property
    def is_accepted(self) -> bool:
        """Whether the picture goes on."""
        return not self.reason

    def __str__(self) -> str:
        found = "" if self.score is None else f"{self.score:.3f}, "
        told = f"rejected: {self.reason}" if self.reason else "accepted"
        return f"Image {self.index + 1}: {found}{told}"


def why_no_face(photo: Photo) -> str:
    """Say why a picture has no face that could be compared."""
    return PLAIN if photo.pixels.min() == photo.pixels.max() else FACELESS


def judge(looks: Sequence[Comparison | str], threshold: float, keep: int) -> list[Verdict]:
    """Accept what resembles the person enough, and reject everything else with its reason.

    Args:
        looks: One per picture: its comparison, which has a face, or why there is none.
        threshold: Least cosine, which itself is enough.
        keep: At most so many are accepted, the best; 0 is all that are good enough.

    Returns:
        The accepted pictures, the best first, then the rejected ones, likewise; those without a face
        last. Equal ones keep their order.
    """
    verdicts = []
    for place, index in enumerate(sorted(range(len(looks)), key=lambda i: _rank(looks[i]))):
        look = looks[index]
        if isinstance(look, str):
            verdicts.append(Verdict(index, None, look))
        elif look.best < threshold:
            verdicts.append(Verdict(index, look.best, f"below {threshold:g}"))
        else:
            reason = f"not among the best {keep}" if 0 < keep <= place else ""
            verdicts.append(Verdict(index, look.best, reason))
    return verdicts


def _rank(look: Comparison | str) -> float:
    return math.inf if isinstance(look, str) else -look.best


def gate_text(verdicts: Sequence[Verdict], threshold: float) -> str:
    """Tell what was accepted, and of each picture what was found, in the order of `judge`."""
    accepted = sum(verdict.is_accepted for verdict in verdicts)
    head = f"{accepted} of {len(verdicts)} picture(s) accepted, similarity {threshold:g} or more"
    if not accepted:
        best = verdicts[0].score
        found = "no face was found" if best is None else f"the best has {best:.3f}"
        head = (
            f"None of {len(verdicts)} picture(s) reached {threshold:g}: {found}. What follows was not "
            "run. Make other pictures, or lower the threshold."
        )
    return "\n".join((head, *map(str, verdicts)))
