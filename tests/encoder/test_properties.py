"""Whatever photos come in: an identity without NaN, or one of our errors."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from pulid_pack.pulid_core.encoder.encode import EncoderStages, encode_identity
from pulid_pack.pulid_core.encoder.fusion import FUSIONS
from pulid_pack.pulid_core.errors import FaceIndexError, NoFaceError, PulidError
from pulid_pack.pulid_core.face.choice import FACE_ORDERS
from pulid_pack.pulid_core.face.portrait import EncodeSettings
from pulid_pack.pulid_core.face.report import report_text
from pulid_pack.pulid_core.images import Photo, photos_from_image
from pulid_pack.tests.people import scripted

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.uint8)

SETTINGS = st.builds(
    EncodeSettings,
    face_order=st.sampled_from(list(FACE_ORDERS)),
    face_index=st.sampled_from([0, 0, 0, 1, 2]),
    fusion=st.sampled_from(list(FUSIONS)),
    photo_weights=st.just(()) | st.lists(st.floats(-1, 3, width=16), max_size=3).map(tuple),
    skip_missing=st.booleans(),
)


@st.composite
def images(draw):
    """IMAGE batches of any size, channel count and dtype, some with values out of range."""
    batch, channels = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    height, width = draw(st.integers(24, 1400)), draw(st.integers(24, 200))
    if draw(st.booleans()):
        height, width = width, height
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    image = torch.rand(batch, height, width, channels, generator=generator)
    return (image * draw(st.sampled_from([1, 3, 0]))).to(draw(st.sampled_from(DTYPES)))


def some_faces(bgr):
    """Zero to four faces, as many as the photo's size says, not all of them inside it."""
    height, width = bgr.shape[:2]
    template = np.array(((0.3, 0.35), (0.7, 0.36), (0.5, 0.55), (0.35, 0.75), (0.65, 0.74)))
    count = (height + width) % 5  # the fifth has all key points in one place
    return [
        (
            (width * k / 4 - 3, -2, width * (k / 4 + 0.5), height * 0.9),
            template * (width / (k + 1), height) if k < 3 else np.zeros((5, 2)),
            0.5 + k / 10,
        )
        for k in range(count)
    ]


@pytest.mark.slow
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(image=images(), encode_settings=SETTINGS)
def test_any_photos_give_an_identity_or_a_clear_error(tiny_stages, image, encode_settings):
    stages = EncoderStages(
        scripted(tiny_stages.faces, some_faces),
        SmallParser(),
        tiny_stages.vision,
        tiny_stages.encoder,
    )
    try:
        identity = encode_identity(photos_from_image(image), stages, encode_settings)
    except PulidError as error:
        event(type(error).__name__)
        return
    event("identity")
    for tensor in (
        identity.tokens,
        identity.uncond_tokens,
        identity.arcface_embeddings,
        identity.crops,
        identity.rounded().tokens,
    ):
        assert tensor.dtype == torch.float32
        assert tensor.isfinite().all()
    assert identity.tokens.shape[1] % identity.uncond_tokens.shape[1] == 0
    assert len(identity.photos) == len(image)
    assert len(identity.crops) == sum(photo.chosen is not None for photo in identity.photos)
    assert report_text(identity.photos).count("<- taken") == len(identity.crops)


class SmallParser(torch.nn.Module):
    """Labels by brightness, in no time."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(18.0), requires_grad=False)

    def forward(self, faces):
        """(B, 3, H, W) -> (B, H, W)."""
        return (faces.mean(dim=1) * self.scale).long()


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(count=st.integers(0, 5), order=st.sampled_from(list(FACE_ORDERS)), index=st.integers(0, 6))
def test_every_index_is_a_face_of_its_own_or_an_error(tiny_stages, count, order, index):
    """Counted in any order, the indices reach every face once."""
    generator = np.random.default_rng(count)
    corners = generator.permutation(9)[:count, None] // (3, 1) % 3 * 40
    faces = [
        ((*corner, *(corner + 20 + number)), generator.uniform(0, 99, (5, 2)), 0.6)
        for number, corner in enumerate(corners)
    ]
    stages = EncoderStages(
        # On the photo itself; with a border, in windows and turned there is nothing to add.
        scripted(tiny_stages.faces, lambda bgr: faces if bgr.shape == (120, 120, 3) else []),
        SmallParser(),
        tiny_stages.vision,
        tiny_stages.encoder,
    )
    photo = np.full((120, 120, 3), 99, np.uint8)

    def chosen(index):
        identity = encode_identity([Photo(photo)], stages, EncodeSettings(order, index))
        return identity.photos[0].chosen.box.tobytes()

    if count == 0:
        with pytest.raises(NoFaceError):
            chosen(index)
    elif index >= count:
        with pytest.raises(FaceIndexError):
            chosen(index)
    else:
        assert len({chosen(number) for number in range(count)}) == count
