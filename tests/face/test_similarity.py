"""The number that says how alike two faces are.

The stage's recogniser is a random linear map of the aligned pixels. It shows that the right faces are
compared, and that the number falls as pixels change: blur, mirror, another person. That two photos of one
person get a high number is ArcFace's merit, and cannot be shown with it.
"""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pulid_pack.pulid_core.face.boxes import CHOSEN_RGB, OTHER_RGB
from pulid_pack.pulid_core.face.portrait import EncodeSettings, choose_portraits
from pulid_pack.pulid_core.face.similarity import (
    annotate,
    compare,
    mean_direction,
    mean_similarity,
    similarity_text,
)
from pulid_pack.pulid_core.images import Photo
from pulid_pack.tests.people import scripted


def person_of(pixels, analyser, index=0):
    """ArcFace's direction of one face; on t1 from left to right."""
    (portrait,), _ = choose_portraits(
        [Photo(pixels)], analyser, EncodeSettings("left-to-right", index)
    )
    return mean_direction(portrait.embedding.unsqueeze(0))


def test_the_identical_photo_gives_one(astronaut, analyser):
    comparison = compare(Photo(astronaut.copy()), person_of(astronaut, analyser), analyser)
    assert comparison.best == pytest.approx(1, abs=1e-9)
    assert comparison.best <= 1


def test_order_under_blur_and_another_person(t1, analyser):
    """The same pixels, then a little blur, more blur; other people are below these."""
    (face,) = (f for f in analyser.find(Photo(t1)) if 464 < f.center[0] < 575)
    face, person = analyser.settle(Photo(t1), face), person_of(t1, analyser, 2)

    def likeness(pixels):
        vector = analyser.embed(Photo(pixels), face)
        return float(mean_direction(vector.unsqueeze(0)) @ person)

    blurred = [likeness(cv2.GaussianBlur(t1, (0, 0), sigma)) for sigma in (1, 3, 6)]
    assert 1 > blurred[0] > blurred[1] > blurred[2]
    others = sorted(compare(Photo(t1), person, analyser).cosines)
    assert others[-1] == pytest.approx(1, abs=1e-6)
    assert others[-2] < blurred[1]


def test_the_best_face_of_the_picture_counts(t1, analyser):
    """Not the largest: with the fourth person as reference, that face wins, and is marked in green."""
    comparison = compare(Photo(t1), person_of(t1, analyser, 3), analyser)
    best = comparison.faces[comparison.best_index]
    assert 748 < best.center[0] < 848
    picture = annotate(Photo(t1), comparison)
    for face in comparison.faces:
        left, _, _, bottom = face.box.round().astype(int)
        color = CHOSEN_RGB if face is best else OTHER_RGB
        assert (np.abs(picture[bottom - 4 : bottom + 2, left + 20] - np.array(color)) < 2).any()
    assert not np.array_equal(picture, t1)


def test_report_lists_every_face_and_counts_no_face_as_zero(t1, analyser):
    person = person_of(t1, analyser)
    empty = np.zeros((64, 64, 3), np.uint8)
    comparisons = [compare(Photo(picture), person, analyser) for picture in (t1, empty)]
    assert mean_similarity(comparisons) == pytest.approx(0.5)
    text = similarity_text(comparisons)
    assert "Mean similarity 0.500 over 2 image(s)" in text
    assert "Image 2 of 2: no face, counts as 0" in text
    assert text.count("box") == 6
    assert text.count("<- best") == 1


def test_several_photos_of_the_person_count_alike():
    """By direction: the length of a raw ArcFace vector says nothing about the person."""
    one, other = torch.eye(512)[0], torch.eye(512)[1]
    person = mean_direction(torch.stack((one * 30, other * 0.1)))
    assert person @ one.double() == pytest.approx(0.5**0.5)
    assert person @ other.double() == pytest.approx(0.5**0.5)


@settings(max_examples=40, deadline=None)
@given(
    photo=st.tuples(st.integers(32, 200), st.integers(32, 200)).flatmap(
        lambda size: arrays(np.uint8, (*size, 3), elements=st.integers(0, 255), fill=st.just(7))
    ),
    boxes=st.lists(st.tuples(*[st.integers(-50, 250)] * 4), max_size=4),
    vector=arrays(
        np.float32, (1, 512), elements=st.sampled_from([0, 1e-20, -1, 1e4]), fill=st.just(0)
    ),
)
def test_any_picture_gets_a_number(analyser, photo, boxes, vector):
    """Boxes outside the picture, faces that are one colour, a vector of zeros: finite, in [-1, 1]."""
    faces = [
        (
            (min(x, u), min(y, v), max(x, u) + 1, max(y, v) + 1),
            np.array(((0, 0), (9, 0), (5, 5), (1, 9), (8, 9))) + np.array((x, y)),
            0.7,
        )
        for x, y, u, v in boxes
    ]
    comparison = compare(
        Photo(photo),
        mean_direction(torch.from_numpy(vector)),
        scripted(analyser, lambda bgr: faces if bgr.shape == photo.shape else []),
    )
    assert all(-1 <= cosine <= 1 for cosine in comparison.cosines)
    assert len(comparison.cosines) <= len(boxes)
    assert annotate(Photo(photo), comparison).shape == photo.shape
    assert annotate(Photo(photo), comparison).flags.writeable  # torch warns of read-only pixels
    assert "nan" not in similarity_text([comparison])
