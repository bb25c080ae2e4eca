"""Faces, photos and loaded models that the tests of identities share."""

from dataclasses import replace
from importlib import metadata
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
from pulid_pack.pulid_core.images import Pixels
from pulid_pack.pulid_core.result_cache import ResultCache
from pulid_pack.tests.people import TinyVision, tiny_encoder


@pytest.fixture(scope="session")
def analyser(stage) -> FaceAnalyser:
    """The stage's detector and recogniser in the real InsightFace."""
    return FaceAnalyser(stage / "insightface/models/antelopev2")


def read_picture(path: Path) -> Pixels:
    return np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])


@pytest.fixture(scope="session")
def t1() -> Pixels:
    """Six people, 1280 x 886."""
    return read_picture(Path(insightface.__file__).parent / "data/images/t1.jpg")


@pytest.fixture(scope="session")
def astronaut() -> Pixels:
    """The demo photo: Eileen Collins, 512 x 512, a face of 91 px."""
    return np.ascontiguousarray(skimage.data.astronaut())


@pytest.fixture(scope="session")
def hopper() -> Pixels:
    """Grace Hopper, 512 x 600, a face of 183 px; of matplotlib only this file is read."""
    package = metadata.distribution("matplotlib")
    return read_picture(
        Path(str(package.locate_file("matplotlib/mpl-data/sample_data/grace_hopper.jpg")))
    )


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
    return replace(loaded_stages, recall=ResultCache(2**28))


@pytest.fixture
def tiny_stages(analyser) -> EncoderStages:
    """Every network narrow, for tests about what is done and not about its size."""
    torch.manual_seed(0)
    checkpoint = KnownCheckpoint("tiny.safetensors", "0" * 64)
    parser, vision = FaceParser().eval(), TinyVision()
    return EncoderStages(analyser, parser, vision, tiny_encoder(), checkpoint)
