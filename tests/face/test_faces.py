"""The right person: chosen by order and index, seen by both branches, found on hard photos.

The detector is a trained one, CenterFace. The recogniser is a random linear map of the aligned pixels: it
tells which face was cut out and how well, and nothing about likeness.
"""

import tracemalloc

import cv2
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from insightface.utils.face_align import norm_crop
from pulid_pack.benchmarks.peer_encoder import PeerEncoder
from pulid_pack.pulid_core.encoder.encode import encode_identity
from pulid_pack.pulid_core.encoder.vision_tower import INPUT_SIZE_PX
from pulid_pack.pulid_core.errors import (
    FaceIndexError,
    NoFaceError,
    PulidError,
    ReferenceImageError,
)
from pulid_pack.pulid_core.face.alignment import MIDDLE, align, fit_error, roll_degrees
from pulid_pack.pulid_core.face.choice import FACE_ORDERS, SAME_PERSON, choose_face
from pulid_pack.pulid_core.face.detection import search
from pulid_pack.pulid_core.face.portrait import EncodeSettings, choose_portraits
from pulid_pack.pulid_core.face.quality import sharpness
from pulid_pack.pulid_core.face.report import picture_of_choice, report_text
from pulid_pack.pulid_core.images import Photo
from pulid_pack.tests.people import T1_CENTRES, photos_of, scripted, take

T1_ORDERS = {
    "largest": "CE CE AD AD BF BF",
    "smallest": "BF BF AD AD CE CE",
    "center": "CD CD B E A F",
    "left-to-right": "A B C D E F",
    "top-to-bottom": "E B AF AF C D",
    SAME_PERSON: "CE CE AD AD BF BF",
}
"""The people of t1 in each order, two where a pixel decides; alone on a photo, everybody is the same
person, and the largest first."""


def cosine(one, other):
    one, other = np.asarray(one), np.asarray(other)
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


def is_at(face, centre):
    left, top, right, bottom = face.box
    return left < centre[0] < right and top < centre[1] < bottom


def likeness(portrait, other):
    """Correlation of the middles of two aligned faces: near 1 for the same picture, aligned alike."""
    crops = [
        cv2.GaussianBlur(p.crop, (0, 0), 4)[MIDDLE].ravel().astype(float) for p in (portrait, other)
    ]
    return float(np.corrcoef(*crops)[0, 1])


def face_of(pixels, analyser, width=None, margin=0.6):
    """The face with some surroundings, optionally scaled to a width."""
    face = take(pixels, analyser)[1].chosen
    left, top, right, bottom = face.box
    beside, above = margin * (right - left), margin * (bottom - top)
    start = np.maximum((left - beside, top - above), 0).astype(int)
    part = pixels[start[1] : int(bottom + above), start[0] : int(right + beside)]
    if width:
        scale = width / (right - left)
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        part = cv2.resize(part, None, fx=scale, fy=scale, interpolation=how)
    return np.ascontiguousarray(part)


def on_canvas(picture, height, width, top, left):
    canvas = np.full((height, width, 3), 128, np.uint8)
    canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return canvas


def test_every_order_is_checked():
    assert T1_ORDERS.keys() == set(FACE_ORDERS)


@pytest.mark.parametrize("order", FACE_ORDERS)
def test_both_branches_take_the_same_person_of_six(t1, analyser, order):
    """For every index: box, crop (vision branch) and vector (ArcFace branch) of one person."""
    taken = []
    for index, people in enumerate(T1_ORDERS[order].split()):
        portrait, report = take(t1, analyser, order, index)
        (person,) = (p for p in people if is_at(report.chosen, T1_CENTRES[p]))
        taken.append(person)
        assert sum(is_at(face, T1_CENTRES[person]) for face in report.faces) == 1
        points = report.chosen.key_points.astype(np.float32)
        bgr = np.ascontiguousarray(t1[..., ::-1])
        crop = PeerEncoder.align(bgr, points)[..., ::-1]
        assert np.abs(portrait.crop.astype(int) - crop).mean() < 1
        vector = analyser._recogniser.get_feat(norm_crop(bgr, points, 112)).flatten()
        assert cosine(portrait.embedding, vector) > 0.999
    assert sorted(taken) == list("ABCDEF")


def test_the_vision_branch_sees_the_crop_of_the_chosen_person(t1, analyser, tiny_stages):
    """face_crops, left: the aligned crop of the person that the vector belongs to."""
    for index, person in enumerate("ABCDEF"):
        identity = encode_identity([Photo(t1)], tiny_stages, EncodeSettings("left-to-right", index))
        portrait, _ = take(t1, analyser, "left-to-right", index)
        assert is_at(identity.photos[0].chosen, T1_CENTRES[person])
        small = cv2.resize(
            portrait.crop, (INPUT_SIZE_PX, INPUT_SIZE_PX), interpolation=cv2.INTER_AREA
        )
        shown = identity.crops[0, :, :INPUT_SIZE_PX].numpy() * 255
        assert np.abs(shown - small).mean() < 3


def test_alignment_is_facexlibs_within_a_pixel():
    """Where the corners of the photo go differs by less than 1 px, for faces in any position."""
    generator = np.random.default_rng(1)
    template = np.array([(80, 90), (130, 92), (105, 120), (85, 145), (125, 147)], np.float64)
    for _ in range(20):
        angle, size = generator.uniform(-0.7, 0.7), generator.uniform(0.5, 3)
        turn = np.array(((np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))))
        points = (template @ turn.T * size + generator.uniform(50, 300, 2)).astype(np.float32)
        points += generator.normal(0, size, points.shape).astype(np.float32)
        photo = generator.integers(0, 256, (60, 80, 3), dtype=np.uint8)
        photo = cv2.resize(photo, (800, 600), interpolation=cv2.INTER_CUBIC)
        ours, peer = align(photo, points), PeerEncoder.align(photo, points)
        shift, _ = cv2.phaseCorrelate(ours[..., 0].astype(float), peer[..., 0].astype(float))
        assert np.hypot(*shift) < 1
        assert np.abs(ours.astype(int) - peer).mean() < 1


def test_key_points_in_one_place_are_refused():
    with pytest.raises(ReferenceImageError, match="Five key points"):
        align(np.zeros((64, 64, 3), np.uint8), np.full((5, 2), 9.0))


def test_an_index_that_does_not_exist_lists_the_faces(t1, analyser):
    with pytest.raises(FaceIndexError) as caught:
        choose_face(Photo(t1, 1, 3), analyser, "left-to-right", 6)
    text = str(caught.value)
    assert "Face 6 was wanted in image 2 of 3" in text
    assert text.count("box") == 6
    assert "0 to 5" in text


def test_boxes_and_key_points_of_two_photographs(astronaut, hopper, analyser):
    """Where a person sees them, within a few pixels."""
    for pixels, box, points in (
        (
            astronaut,
            (180, 62, 271, 178),
            ((205, 101), (247, 104), (226, 126), (205, 143), (244, 146)),
        ),
        (
            hopper,
            (173, 123, 356, 338),
            ((223, 200), (304, 194), (266, 241), (232, 281), (299, 276)),
        ),
    ):
        portrait, report = take(pixels, analyser)
        assert report.warnings == ()
        assert np.abs(portrait.face.box - box).max() < 6
        assert np.abs(portrait.face.key_points - points).max() < 12


@pytest.mark.slow
@pytest.mark.parametrize("width", [100, 150, 400])
@pytest.mark.parametrize("place", [(100, 200), (2100, 3300)])
def test_a_face_on_a_photo_of_24_megapixels_is_as_sharp_as_cut_out_by_hand(
    astronaut, analyser, width, place
):
    """Found, told in the user's pixels, and aligned like the same face on a photo of its own."""
    small = face_of(astronaut, analyser, width)
    alone, _ = take(small, analyser)
    portrait, report = take(on_canvas(small, 4000, 6000, *place), analyser)
    assert likeness(portrait, alone) > 0.85
    assert sharpness(portrait.crop) > 0.8 * sharpness(alone.crop)
    assert (report.width, report.height) == (6000, 4000)
    assert report.chosen.box[2] - report.chosen.box[0] == pytest.approx(width, rel=0.25)
    assert report.warnings == ()


def test_a_large_face_is_reduced_without_skipping_pixels(hopper, analyser):
    """Fine stripes over a face of 2000 px turn into an even shade, as they do for an eye."""
    large = cv2.resize(hopper, None, fx=11, fy=11, interpolation=cv2.INTER_CUBIC)
    portrait, report = take(large, analyser)
    striped = large.copy()
    striped[::2] = 0
    crop = align(striped, report.chosen.key_points).astype(float)
    assert np.abs(crop - portrait.crop / 2.0)[MIDDLE].mean() < 15  # by skipping: 60


@pytest.mark.slow
def test_a_photo_of_144_megapixels_needs_little_memory(astronaut, analyser):
    """Beyond its own 8 bit pixels, with a face, and in the windows without one."""
    pixels = np.full((12_000, 12_000, 3), 128, np.uint8)
    pixels[5000:5512, 7000:7512] = astronaut
    looks = iter(range(12))
    tracemalloc.start()
    take(pixels, analyser)
    pixels[5000:5512, 7000:7512] = 128
    with pytest.raises(StopIteration):
        search(pixels, lambda _: (np.zeros((0, 5)), np.zeros((0, 5, 2))), lambda: next(looks))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**27


@pytest.mark.parametrize("margin", [0.5, 0.25, 0.1, 0, -0.1])
def test_a_close_up_is_aligned_like_the_whole_photo(hopper, astronaut, analyser, margin):
    """Also where the frame cuts into the face."""
    for pixels in (hopper, astronaut):
        whole, _ = take(pixels, analyser)
        portrait, _ = take(face_of(pixels, analyser, margin=margin), analyser)
        assert likeness(portrait, whole) > (0.9 if margin >= 0 else 0.7)


@pytest.mark.parametrize("margin", [-0.05, -0.15, -0.2])
def test_a_bystander_never_wins_over_a_face_that_fills_the_frame(
    hopper, astronaut, analyser, margin
):
    """A second face of 60 px in a corner of a close-up."""
    close = cv2.resize(face_of(hopper, analyser, margin=margin), (700, 800))
    small = face_of(astronaut, analyser, 60, margin=0.3)
    close[-small.shape[0] :, -small.shape[1] :] = small
    try:
        _, report = take(close, analyser)
    except NoFaceError:
        return
    assert report.chosen.box[2] - report.chosen.box[0] > 300


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turned_photo_is_set_upright_and_said(t1, hopper, astronaut, analyser, quarters):
    """The crop is that of the upright photo; the box is where the turned photo shows the face."""
    for pixels in (astronaut, hopper, face_of(t1, analyser)):
        upright, _ = take(pixels, analyser)
        turned = np.ascontiguousarray(np.rot90(pixels, quarters))
        portrait, report = take(turned, analyser)
        assert likeness(portrait, upright) > 0.9
        assert any("set upright" in warning for warning in report.warnings)
        height, width = pixels.shape[:2]
        x, y = upright.face.center
        places = {1: (y, width - x), 2: (width - x, height - y), 3: (height - y, x)}
        assert is_at(report.chosen, places[quarters])


@pytest.mark.slow
@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    who=st.sampled_from(["astronaut", "hopper"]),
    width=st.integers(40, 700),
    angle=st.integers(0, 359),
    place=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    size=st.sampled_from([(600, 800), (1000, 1500)]),
)
def test_any_size_and_turn_gives_the_person_or_a_reason(
    astronaut, hopper, analyser, who, width, angle, place, size
):
    """The chosen face lies where the person was put, or the photo is refused."""
    pixels = {"astronaut": astronaut, "hopper": hopper}[who]
    width = min(width, min(size) // 3)
    part = face_of(pixels, analyser, width, margin=0.4)
    height, length = part.shape[:2]
    side = int(np.hypot(height, length)) + 2
    middle = (length / 2, height / 2)
    matrix = cv2.getRotationMatrix2D(middle, angle, 1)
    matrix[:, 2] += side / 2 - np.array(middle)
    part = cv2.warpAffine(part, matrix, (side, side), borderValue=(128, 128, 128))
    top, left = (
        int(share * max(0, whole - side)) for share, whole in zip(place, size, strict=True)
    )
    side = min(side, *size)
    canvas = on_canvas(part[:side, :side], *size, top, left)
    try:
        _, report = take(canvas, analyser)
    except PulidError:
        return
    assert is_at(report.chosen, (left + side / 2, top + side / 2))
    if fit_error(report.chosen.key_points) < 12 and width >= 80:
        off = (roll_degrees(report.chosen.key_points) + angle + 180) % 360 - 180
        assert abs(off) < 45


def test_nothing_to_be_found_says_what_was_tried(analyser):
    """The search is made once; an empty picture is called by its name."""
    blind = scripted(analyser, lambda bgr: [])
    pixels = np.zeros((300, 400, 3), np.uint8)
    pixels[:9] = 200
    for _ in range(2):
        with pytest.raises(NoFaceError, match=r"image 3 of 4.*turned, or in parts"):
            choose_face(Photo(pixels, 2, 4), blind)
    assert blind._detector.calls == 3 + 3 + 6
    with pytest.raises(NoFaceError, match="one plain colour"):
        choose_face(Photo(np.zeros((300, 400, 3), np.uint8)), blind)


def vectors_of(people):
    """An ArcFace that knows who is where: one vector for each person."""

    def embed(photo, face):
        for centre, number in people[photo.index]:
            if is_at(face, centre):
                return torch.eye(512)[number] * 20 + 0.1
        raise AssertionError(face)

    return embed


@pytest.fixture
def family(t1, astronaut, hopper, analyser, monkeypatch):
    """Hopper alone; Hopper left of Collins; the six of t1 with Hopper among them."""
    pair = np.concatenate((hopper[:512], astronaut), axis=1)
    group = t1.copy()
    group[:350, 560:760] = cv2.resize(hopper[50:400, 150:400], (200, 350))
    pictures = photos_of(hopper, pair, group)
    centres = [(c, n) for n, c in enumerate(T1_CENTRES.values())]
    hoppers = [[((265, 230), 9)], [((265, 230), 9), ((737, 120), 8)], [*centres, ((652, 180), 9)]]
    monkeypatch.setattr(analyser, "embed", vectors_of(hoppers))
    return pictures


def test_the_same_person_is_taken_from_every_photo(family, analyser):
    portraits, reports = choose_portraits(family, analyser, EncodeSettings(SAME_PERSON))
    assert {int(portrait.embedding.argmax()) for portrait in portraits} == {9}
    assert not any(report.warnings for report in reports)
    assert len(reports[2].faces) == 7


def test_strangers_in_one_batch_warn(family, analyser):
    """By size alone the third photo gives somebody else."""
    portraits, reports = choose_portraits(family, analyser, EncodeSettings("left-to-right", 0))
    assert int(portraits[2].embedding.argmax()) == 0
    assert [any("another person" in w for w in r.warnings) for r in reports] == [False, False, True]


def test_a_photo_is_searched_and_embedded_once(t1, analyser):
    """Found from near and far, the largest looked at again; then nothing, in any order."""
    counted = scripted(analyser, None)
    real, calls = analyser._detector.detect, []
    counted._detector.detect = lambda bgr: calls.append(1) or real(bgr)
    first = choose_portraits(photos_of(t1, t1.copy()), counted, EncodeSettings())
    assert len(calls) == 3 + 1
    again = choose_portraits([Photo(t1)], counted, EncodeSettings())
    assert len(calls) == 4
    assert again[0][0].key == first[0][1].key
    assert report_text(again[1]).count("box") == 6


def test_embedding_is_raw(astronaut, analyser):
    """PuLID wants the vector as ArcFace gives it, not normalised."""
    portrait, _ = take(astronaut, analyser)
    assert portrait.embedding.shape == (512,)
    assert not torch.isclose(portrait.embedding.norm(), torch.tensor(1.0), atol=0.1)


@pytest.mark.parametrize("order", ["left-to-right", "largest"])
def test_the_picture_shows_the_number_to_type(t1, analyser, order):
    """The chosen box is green, every other gray, and the crops stand on the right."""
    portrait, report = take(t1, analyser, order, 2)
    crop = np.concatenate([cv2.resize(portrait.crop, (336, 336))] * 2, axis=1)
    picture = picture_of_choice(report, crop)
    scale = 672 / 886
    for index, face in enumerate(report.faces):
        left, _, _, bottom = (face.box * scale).round().astype(int)
        pixel = picture[bottom - 3 : bottom + 4, left + 20].astype(int)
        green = np.abs(pixel - (40, 200, 80)).sum(axis=1).min() < 30
        assert green == (index == 2)
    assert np.abs(picture[:336, -336:].astype(int) - crop[:, :336]).mean() < 1
    skipped = picture_of_choice(report, None)
    assert skipped.shape == picture.shape
