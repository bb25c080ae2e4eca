"""What is said about a face that is hard to encode, and that nothing is said about a good one."""

import cv2
import numpy as np
import pytest
from pulid_pack.pulid_core.face.alignment import align
from pulid_pack.pulid_core.face.quality import face_warnings, sharpness
from pulid_pack.pulid_core.face.report import summary_text
from pulid_pack.tests.people import take

WARNED = {
    "5 px wide": lambda p: cv2.resize(p, (256, 256), interpolation=cv2.INTER_AREA),
    "blurred": lambda p: cv2.GaussianBlur(p, (0, 0), 4),
    "too dark": lambda p: (p * 0.08).astype(np.uint8),
    "overexposed": lambda p: np.clip(p * 4.0, 0, 255).astype(np.uint8),
    "lies outside": lambda p: np.ascontiguousarray(p[:, 225:]),
    "lies outside the photo": lambda p: np.ascontiguousarray(p[120:]),
    "stretched": lambda p: cv2.resize(p, None, fx=2, fy=1),
    "face is stretched": lambda p: cv2.resize(p, None, fx=1, fy=2),
}


@pytest.mark.parametrize("warning", WARNED)
def test_a_poor_face_warns(astronaut, analyser, warning):
    _, report = take(WARNED[warning](astronaut), analyser)
    assert any(warning in told for told in report.warnings), report.warnings
    assert warning in summary_text((report,))


def test_good_faces_do_not_warn(t1, astronaut, hopper, analyser):
    """Smaller, darker, mirrored, gray, tilted."""
    tilt = cv2.getRotationMatrix2D((225, 127), 30, 1)
    for pixels in (
        astronaut,
        hopper,
        np.ascontiguousarray(astronaut[:, ::-1]),
        (hopper * 0.4).astype(np.uint8),
        hopper.mean(axis=2, keepdims=True).repeat(3, 2).astype(np.uint8),
        cv2.warpAffine(astronaut, tilt, (512, 512)),
    ):
        assert take(pixels, analyser)[1].warnings == ()
    for index in range(6):
        assert take(t1, analyser, "left-to-right", index)[1].warnings == ()


def test_points_that_fit_no_face_warn(astronaut, analyser):
    portrait, report = take(astronaut, analyser)
    points = report.chosen.key_points[[2, 3, 0, 1, 4]]
    wrong = type(portrait.face)(portrait.face.box, points, 0.9)
    warnings = face_warnings(portrait.photo, wrong, align(astronaut, points))
    assert any("not found where a face has them" in warning for warning in warnings)


def test_sharpness_falls_with_blur(t1, analyser):
    """For each of six people, and more for more blur; none of the six counts as blurred."""
    for index in range(6):
        points = take(t1, analyser, "left-to-right", index)[1].chosen.key_points
        values = [
            sharpness(align(cv2.GaussianBlur(t1, (0, 0), sigma) if sigma else t1, points))
            for sigma in (0, 1, 2, 4)
        ]
        assert values == sorted(values, reverse=True)
        assert values[0] > 0.05
        assert values[2] < 0.04
