"""The pictures that the shared workflows load: `python devtools/example_photos.py FOLDER`.

The tiny stage's detector finds one face on each portrait, and three on the group photo.
"""

import itertools
import sys
from pathlib import Path

import cv2
import numpy as np
import skimage.data

# Head, arms and legs of a stick figure, from the neck outwards, in percent of width and height.
LIMBS = (
    ((50, 24), (50, 14)),
    ((50, 24), (41, 24), (33, 34), (27, 23)),
    ((50, 24), (59, 24), (66, 36), (62, 48)),
    ((50, 24), (45, 50), (43, 70), (40, 90)),
    ((50, 24), (55, 50), (60, 69), (58, 90)),
)


def portrait() -> np.ndarray:
    """scikit-image's astronaut (NASA, public domain), RGB; 512 x 512."""
    return skimage.data.astronaut()


def second_person() -> np.ndarray:
    """The same astronaut in bluer light."""
    return lit((0.75, 0.9, 1.0))


def group() -> np.ndarray:
    """Three astronauts side by side, each in another light; 1056 x 512."""
    people = [portrait(), second_person(), lit((1.0, 0.85, 0.65))]
    return np.concatenate([person[:, 48:400] for person in people], axis=1)


def lit(color: tuple[float, float, float]) -> np.ndarray:
    return (portrait() * np.array(color)).round().astype(np.uint8)


def pose() -> np.ndarray:
    """A figure of coloured sticks, as OpenPose draws it; 512 x 640."""
    picture = np.zeros((640, 512, 3), np.uint8)
    sticks = [pair for limb in LIMBS for pair in itertools.pairwise(limb)]
    hues = np.linspace(0, 160, len(sticks), dtype=np.uint8)
    colors = cv2.applyColorMap(hues[:, None], cv2.COLORMAP_HSV)[:, 0].tolist()
    for stick, color in zip(sticks, colors, strict=True):
        start, end = ((x * 512 // 100, y * 640 // 100) for x, y in stick)
        cv2.line(picture, start, end, color, thickness=10)
    return picture


PICTURES = {
    "portrait.png": portrait,
    "second-person.png": second_person,
    "group.png": group,
    "pose.png": pose,
}


def write_photos(folder: Path) -> list[Path]:
    """Write all pictures, under the names that the workflows load."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in PICTURES]
    for path in paths:
        cv2.imwrite(str(path), cv2.cvtColor(PICTURES[path.name](), cv2.COLOR_RGB2BGR))
    return paths


if __name__ == "__main__":
    write_photos(Path(sys.argv[1]))
