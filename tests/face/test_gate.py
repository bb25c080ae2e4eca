"""The gate's verdicts: who passes, in which order, and why not."""

import numpy as np
import pytest
from pulid_pack.pulid_core.face.gate import FACELESS, PLAIN, gate_text, judge, why_no_face
from pulid_pack.pulid_core.face.similarity import Comparison
from pulid_pack.pulid_core.images import Photo


def face(*cosines: float) -> Comparison:
    """A picture with so many faces; the gate looks at the cosines alone."""
    return Comparison(faces=(None,) * len(cosines), cosines=cosines)  # type: ignore[arg-type]


LOOKS = [face(0.5), FACELESS, face(-0.2, 0.8), face(0.49999), face(0.6, 0.1), "it is damaged"]


def test_who_reaches_the_threshold_passes_the_best_first():
    """By the best face of each picture; the threshold itself is enough."""
    verdicts = judge(LOOKS, 0.5, keep=0)
    assert [verdict.index for verdict in verdicts] == [2, 4, 0, 3, 1, 5]
    assert [verdict.is_accepted for verdict in verdicts] == [True] * 3 + [False] * 3
    assert [verdict.score for verdict in verdicts] == [0.8, 0.6, 0.5, 0.49999, None, None]
    assert [verdict.reason for verdict in verdicts[3:]] == ["below 0.5", FACELESS, "it is damaged"]


@pytest.mark.parametrize(("keep", "accepted"), [(0, 3), (1, 1), (2, 2), (3, 3), (99, 3)])
def test_only_the_best_are_kept(keep, accepted):
    """Never one below the threshold, however few there are."""
    verdicts = judge(LOOKS, 0.5, keep)
    assert sum(verdict.is_accepted for verdict in verdicts) == accepted
    others = [verdict.reason for verdict in verdicts[accepted:3]]
    assert others == [f"not among the best {keep}"] * (3 - accepted)


def test_no_face_never_passes():
    """Not even where strangers would: a faceless picture is no cosine of 0."""
    for keep in (0, 1):
        verdicts = judge([FACELESS, face(-1.0)], -1.0, keep)
        assert [verdict.index for verdict in verdicts if verdict.is_accepted] == [1]


def test_equal_pictures_keep_their_order():
    assert [verdict.index for verdict in judge([face(0.7)] * 4, 0.5, 2)] == [0, 1, 2, 3]


def test_the_report_tells_of_every_picture_and_first_how_many_passed():
    text = gate_text(judge(LOOKS, 0.5, 2), 0.5)
    assert text.splitlines()[:2] == [
        "2 of 6 picture(s) accepted, similarity 0.5 or more",
        "Image 3: 0.800, accepted",
    ]
    assert "Image 1: 0.500, rejected: not among the best 2" in text
    assert f"Image 2: rejected: {FACELESS}" in text


@pytest.mark.parametrize(
    ("looks", "told"),
    [([face(0.1), face(0.3)], "the best has 0.300"), ([FACELESS], "no face was found")],
)
def test_without_one_the_report_begins_with_what_that_means(looks, told):
    first, *_ = gate_text(judge(looks, 0.5, 0), 0.5).splitlines()
    assert first.startswith(
        f"None of {len(looks)} picture(s) reached 0.5: {told}. What follows was"
    )


def test_a_plain_picture_is_called_so():
    plain = np.full((40, 40, 3), 128, np.uint8)
    assert why_no_face(Photo(plain)) == PLAIN
    plain[3, 3] = 0
    assert why_no_face(Photo(plain)) == FACELESS
