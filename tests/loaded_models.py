"""Faces, photos and loaded models that the tests of identities share."""

from dataclasses import replace
from pathlib import Path

import cv2
import insightface
import numpy as np
import pytest
import skimage.data
import torch
from pulid_pack.pulid_core.encoder.encode import EncoderStages, load_stages
from pulid_pack.pulid_core.encoder.face_parser import FaceParser
from pulid_pack.pulid_core.face.analyser import FaceAnalyser
from pulid_pack.pulid_core.identity.file import KnownCheckpoint
from pulid_pack.pulid_core.images import Photo, photos_from_image
from pulid_pack.pulid_core.result_cache import Recall
from pulid_pack.tests.people import (
    T1_FACES,
    TinyVision,
    scripted,
    tiny_encoder,
    to_image,
)


@pytest.fixture(scope="session")
def analyser(stage) -> FaceAnalyser:
    """The stage's detector and recogniser in the real InsightFace."""
    return FaceAnalyser(stage / "insightface/models/antelopev2")


@pytest.fixture(scope="session")
def t1() -> Photo:
    """Six people, as reduced before detection: 1024 x 709."""
    path = Path(insightface.__file__).parent / "data/images/t1.jpg"
    return photos_from_image(to_image(cv2.imread(str(path))[..., ::-1].copy()))[0]


@pytest.fixture(scope="session")
def t1_analyser(analyser, t1) -> FaceAnalyser:
    """Finds the six people of t1 where they are; the recogniser is the stage's."""
    scale = t1.shape[1] / 1280
    found = [
        (np.array(box) * scale, np.array(points) * scale, 0.9 - place / 100)
        for place, (box, points) in enumerate(T1_FACES.values())
    ]
    return scripted(analyser, lambda bgr: found if bgr.shape == t1.shape else [])


@pytest.fixture(scope="session")
def astronaut() -> Photo:
    """The demo photo; the stage's detector finds its face at half, full and double size."""
    return np.ascontiguousarray(skimage.data.astronaut())


@pytest.fixture(scope="session")
def loaded_stages(stage) -> EncoderStages:
    """Every network at full size, float32."""
    return load_stages(
        stage / "pulid/pulid_flux_v0.9.1.safetensors",
        stage / "clip_vision/EVA02_CLIP_L_336_psz14_s6B.pt",
        stage / "facexlib/parsing_bisenet.pth",
        stage / "insightface/models/antelopev2",
    )


@pytest.fixture
def stages(loaded_stages) -> EncoderStages:
    """Every network at full size, that remembers nothing."""
    return replace(loaded_stages, recall=Recall(2**28))


@pytest.fixture
def tiny_stages(analyser) -> EncoderStages:
    """Every network narrow, for tests about what is done and not about its size."""
    torch.manual_seed(0)
    checkpoint = KnownCheckpoint("tiny.safetensors", "0" * 64)
    parser, vision = FaceParser().eval(), TinyVision()
    return EncoderStages(analyser, parser, vision, tiny_encoder(), checkpoint)
