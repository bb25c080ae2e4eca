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
from pulid_pack.pulid_core.face.similarity import (
    BEST_RGB,
    OTHER_RGB,
    annotate,
    compare,
    mean_direction,
    mean_similarity,
    similarity_text,
)
from pulid_pack.tests.people import scripted


def person_of(photo, analyser, index=0):
    face = analyser.find(photo)[index]
    return mean_direction(torch.from_numpy(analyser.embed(photo, face)).unsqueeze(0))


def test_the_identical_photo_gives_one(astronaut, analyser):
    comparison = compare(astronaut.copy(), person_of(astronaut, analyser), analyser)
    assert comparison.best == pytest.approx(1, abs=1e-9)
    assert comparison.best <= 1


def test_order_under_blur_mirror_and_another_person(t1, t1_analyser):
    """The same pixels, then a little blur, more blur; mirrored and other people are below these."""
    reference = t1_analyser.find(t1)[0]
    person = person_of(t1, t1_analyser)

    def likeness(photo, points=reference.key_points):
        embed = t1_analyser._recogniser.get_feat
        from insightface.utils.face_align import norm_crop

        vector = embed(norm_crop(np.ascontiguousarray(photo[..., ::-1]), points, 112)).flatten()
        return float(mean_direction(torch.from_numpy(vector).unsqueeze(0)) @ person)

    blurred = [likeness(cv2.GaussianBlur(t1, (0, 0), sigma)) for sigma in (1, 3, 6)]
    assert 1 > blurred[0] > blurred[1] > blurred[2]
    mirrored = likeness(
        np.ascontiguousarray(t1[:, ::-1]),
        (reference.key_points[[1, 0, 2, 4, 3]] * (-1, 1) + (t1.shape[1] - 1, 0)).astype(np.float32),
    )
    others = compare(t1, person, t1_analyser).cosines
    assert others[0] == pytest.approx(1, abs=1e-6)
    assert max(others[1:]) < blurred[1]
    assert mirrored < blurred[0]


def test_the_best_face_of_the_picture_counts(t1, t1_analyser):
    """Not the largest: with the fourth person as reference, face 3 wins, and is marked in green."""
    comparison = compare(t1, person_of(t1, t1_analyser, 3), t1_analyser)
    assert comparison.best_index == 3
    picture = annotate(t1, comparison)
    for index, face in enumerate(comparison.faces):
        left, _, _, bottom = face.box.round().astype(int)
        color = BEST_RGB if index == 3 else OTHER_RGB
        assert (np.abs(picture[bottom - 4 : bottom + 2, left + 20] - np.array(color)) < 2).any()
    assert not np.array_equal(picture, t1)


def test_report_lists_every_face_and_counts_no_face_as_zero(t1, t1_analyser):
    person = person_of(t1, t1_analyser)
    empty = np.zeros((64, 64, 3), np.uint8)
    comparisons = [compare(photo, person, t1_analyser) for photo in (t1, empty)]
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
        photo, mean_direction(torch.from_numpy(vector)), scripted(analyser, lambda bgr: faces)
    )
    assert all(-1 <= cosine <= 1 for cosine in comparison.cosines)
    assert len(comparison.cosines) == len(boxes)
    assert annotate(photo, comparison).shape == photo.shape
    assert annotate(photo, comparison).flags.writeable  # torch warns of read-only pixels
    assert "nan" not in similarity_text([comparison])
