"""Photo -> chosen face: one detection that decides the person for every later stage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import CheckpointError, MissingDependencyError, NoFaceError, PulidError
from .images import Photo

DETECTION_THRESHOLD = 0.5
DETECTION_SIZE_PX = 640
ALIGNED_SIZE_PX = 512

FFHQ_TEMPLATE_PX = np.array(
    [
        (192.98138, 239.94708),  # left eye, as seen
        (318.90277, 240.1936),  # right eye
        (256.63416, 314.01935),  # nose
        (201.26117, 371.41043),  # left corner of the mouth
        (313.08905, 371.15118),  # right corner of the mouth
    ]
)
"""Where the five key points go in a 512 px crop. facexlib utils/face_restoration_helper.py."""

ALIGNED_BORDER_RGB = (132, 133, 135)  # facexlib fills BGR (135, 133, 132)

AUTO_PROVIDER = "auto"
CPU_PROVIDER = "CPUExecutionProvider"


@dataclass(frozen=True, eq=False)
class Face:
    """One detected face, in the pixels of its photo."""

    box: np.ndarray
    """Left, top, right, bottom: (4,) float."""
    key_points: np.ndarray
    """Left eye, right eye, nose, left and right corner of the mouth: (5, 2) float, x then y."""
    score: float
    """Confidence of the detector, 0.5 to 1."""

    @property
    def area(self) -> float:
        """Area of the box in square pixels."""
        left, top, right, bottom = self.box
        return float((right - left) * (bottom - top))


class FaceAnalyser:
    """InsightFace's detector and ArcFace recogniser, loaded from a folder of ONNX files.

    Args:
        folder: The unpacked model pack, for example antelopev2.
        provider: An ONNX Runtime execution provider, or "auto" for the CPU: detection runs once
            per photo in about a tenth of a second, and a GPU session would keep its memory.

    Raises:
        MissingDependencyError: insightface is not installed.
        CheckpointError: The folder holds no detector or no recogniser.
        PulidError: This ONNX Runtime lacks the provider.
    """

    def __init__(self, folder: str | Path, provider: str = AUTO_PROVIDER):
        try:
            import onnxruntime
            from insightface.app import FaceAnalysis
        except ImportError as error:
            raise MissingDependencyError("insightface", "Finding the face in a photo") from error

        provider = CPU_PROVIDER if provider == AUTO_PROVIDER else provider
        available = onnxruntime.get_available_providers()
        if provider not in available:
            raise PulidError(
                f"The face detector should run on {provider}, but this ONNX Runtime has only "
                f"{', '.join(available)}. Choose one of these or auto."
            )
        try:
            app = FaceAnalysis(
                name=str(folder),
                allowed_modules=["detection", "recognition"],
                providers=[provider] if provider == CPU_PROVIDER else [provider, CPU_PROVIDER],
            )
            self._recogniser = app.models["recognition"]
        except (AssertionError, KeyError) as error:  # InsightFace asserts that it found a detector
            raise CheckpointError(
                folder,
                "A face detector and an ArcFace recogniser were expected as .onnx files, but the "
                "folder lacks one of them. Unpack antelopev2.zip there again.",
            ) from error
        app.prepare(
            ctx_id=0,
            det_thresh=DETECTION_THRESHOLD,
            det_size=(DETECTION_SIZE_PX, DETECTION_SIZE_PX),
        )
        self._detector: Any = app.det_model

    def find(self, photo: Photo) -> list[Face]:
        """Find all faces, largest first.

        A face that fills the frame is larger than the detector's anchors: when nothing is found,
        the photo is tried once more with a border around it.
        """
        faces = self._detect(photo)
        if not faces:
            border = max(photo.shape[:2]) // 2
            padded = np.pad(photo, ((border, border), (border, border), (0, 0)))
            faces = [
                Face(face.box - border, face.key_points - border, face.score)
                for face in self._detect(padded)
            ]
        return sorted(faces, key=lambda face: face.area, reverse=True)

    def _detect(self, photo: Photo) -> list[Face]:
        boxes, key_points = self._detector.detect(_rgb_to_bgr(photo))
        return [
            Face(box[:4], points, float(box[4]))
            for box, points in zip(boxes, key_points, strict=True)
        ]

    def embed(self, photo: Photo, face: Face) -> np.ndarray:
        """ArcFace embedding of one face, (512,) float32, not normalised."""
        from insightface.app.common import Face as InsightFace

        return self._recogniser.get(_rgb_to_bgr(photo), InsightFace(kps=face.key_points))


def choose_face(faces: list[Face], image_index: int, image_count: int) -> Face:
    """Take the largest face.

    Raises:
        NoFaceError: There is none.
    """
    if not faces:
        raise NoFaceError(
            image_index,
            image_count,
            "use a photo in which the face is upright, unobstructed and at least about 100 px "
            "wide, or remove that image.",
        )
    return faces[0]


def align(photo: Photo, key_points: np.ndarray) -> Photo:
    """Cut a face out in FFHQ position.

    Args:
        photo: (H, W, 3) uint8.
        key_points: (5, 2), x then y, in the pixels of the photo.

    Returns:
        (512, 512, 3) uint8; what lies outside the photo is gray.
    """
    cv2 = _import_cv2()
    matrix, _ = cv2.estimateAffinePartial2D(
        np.asarray(key_points, dtype=np.float64), FFHQ_TEMPLATE_PX, method=cv2.LMEDS
    )
    return cv2.warpAffine(
        photo, matrix, (ALIGNED_SIZE_PX, ALIGNED_SIZE_PX), borderValue=ALIGNED_BORDER_RGB
    )


def _import_cv2() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise MissingDependencyError("opencv-python", "Aligning a face") from error
    return cv2


def _rgb_to_bgr(photo: Photo) -> np.ndarray:
    return np.ascontiguousarray(photo[..., ::-1])
