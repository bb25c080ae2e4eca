"""The picture of a chosen face on the help pages: `python devtools/choice_picture.py MODELS OUT.jpg`.

Grace Hopper beside Eileen Collins, both in the public domain, from matplotlib and scikit-image.
"""

import sys
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
import skimage.data
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from pulid_core.encoder.face_parser import load_face_parser, mask_background
from pulid_core.encoder.vision_tower import to_input_size
from pulid_core.face.analyser import FaceAnalyser
from pulid_core.face.portrait import EncodeSettings, choose_portraits
from pulid_core.face.report import picture_of_choice
from pulid_core.images import Photo, photo_to_bchw


def hopper() -> np.ndarray:
    """RGB, 512 x 600."""
    package = metadata.distribution("matplotlib")
    path = package.locate_file("matplotlib/mpl-data/sample_data/grace_hopper.jpg")
    return np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])


@torch.inference_mode()
def make_picture(models: Path) -> np.ndarray:
    """Both people, the right one taken, as PulidEncodeIdentity shows it."""
    pixels = np.concatenate((hopper()[:512], skimage.data.astronaut()), axis=1)
    analyser = FaceAnalyser(models / "insightface/models/antelopev2")
    settings = EncodeSettings("left-to-right", 1)
    (portrait,), (report,) = choose_portraits([Photo(pixels)], analyser, settings)
    crop = photo_to_bchw(portrait.crop)
    labels = load_face_parser(models / "facexlib/parsing_bisenet.pth")(crop)
    both = torch.cat([to_input_size(face) for face in (crop, mask_background(crop, labels))], dim=3)
    seen = (both.clamp(0, 1) * 255).round().to(torch.uint8)[0].permute(1, 2, 0).numpy()
    return picture_of_choice(report, np.ascontiguousarray(seen))


if __name__ == "__main__":
    picture = make_picture(Path(sys.argv[1]))
    cv2.imwrite(sys.argv[2], picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
