"""Photo -> chosen face: one detection that decides the person for every later stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import (
    CheckpointError,
    FaceIndexError,
    NoFaceError,
    PulidError,
    ReferenceImageError,
    importing,
)
from ..images import Photo, content_key
from ..result_cache import Recall

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

SMALL_FACE_PX = 80
"""Boxes narrower than this warn: they are enlarged even for ArcFace, whose 112 px hold about 80 px of
face."""

BLURRED_SHARPNESS = 0.02
"""`sharpness` below this warns. Sharp portraits have 0.08 to 0.3; this is reached by a Gaussian blur
of about a fiftieth of the face's width."""

PARTS_ALONG_SIDE = 3
"""Where no face is found, 3 x 3 overlapping parts of the photo are searched for a tiny one."""

RECALLED_BYTES = 8 * 2**20  # about 2 KB per face

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

    @property
    def center(self) -> np.ndarray:
        """Middle of the box: (2,), x then y."""
        return (self.box[:2] + self.box[2:]) / 2

    def __str__(self) -> str:
        left, top, right, bottom = self.box.round().astype(int)
        size = f"{right - left} x {bottom - top} px"
        return f"box {left},{top} to {right},{bottom} ({size}), score {self.score:.2f}"


SortKey = Callable[[Face, np.ndarray], float]

FACE_ORDERS: dict[str, SortKey] = {
    "largest": lambda face, _: -face.area,
    "smallest": lambda face, _: face.area,
    "center": lambda face, middle: float(np.linalg.norm(face.center - middle)),
    "left-to-right": lambda face, _: float(face.center[0]),
    "top-to-bottom": lambda face, _: float(face.center[1]),
}
"""Name -> what the faces of a photo are sorted by, given the face and the photo's middle (x, y)."""


class FaceAnalyser:
    """InsightFace's detector and ArcFace recogniser, loaded from a folder of ONNX files.

    Args:
        folder: The unpacked model pack, for example antelopev2.
        provider: An ONNX Runtime execution provider, or "auto" for the CPU: detection runs once
            per photo in about a tenth of a second, and a GPU session would keep its memory.

    Raises:
        MissingDependencyError: insightface is not installed, or cannot be imported.
        CheckpointError: The folder holds no detector or no recogniser, or a damaged file.
        PulidError: This ONNX Runtime lacks the provider.
    """

    def __init__(self, folder: str | Path, provider: str = AUTO_PROVIDER):
        with importing("insightface", "Finding the face in a photo"):
            import insightface.model_zoo  # before ONNX Runtime, which comes with it
            import onnxruntime
            import onnxruntime.capi.onnxruntime_pybind11_state as errors

        provider = CPU_PROVIDER if provider == AUTO_PROVIDER else provider
        available = onnxruntime.get_available_providers()
        if provider not in available:
            raise PulidError(
                f"The face detector should run on {provider}, but this ONNX Runtime has only "
                f"{', '.join(available)}. Choose one of these or auto."
            )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only; InsightFace's own loader does this for all
        providers = [provider] if provider == CPU_PROVIDER else [provider, CPU_PROVIDER]
        models: dict[str, Any] = {}
        # InsightFace's own loader takes brackets in the folder's name for a pattern.
        for path in sorted(filter(Path.is_file, Path(folder).glob("*.onnx"))):
            try:
                model = insightface.model_zoo.get_model(
                    path, providers=providers, sess_options=options
                )
            except (errors.InvalidArgument, errors.InvalidProtobuf) as error:
                raise _damaged(path) from error
            models.setdefault(getattr(model, "taskname", ""), model)  # face swappers have no task
        if not {"detection", "recognition"} <= models.keys():
            raise _incomplete(folder)
        self._detector, self._recogniser = models["detection"], models["recognition"]
        self._detector.prepare(
            ctx_id=0,
            input_size=(DETECTION_SIZE_PX, DETECTION_SIZE_PX),
            det_thresh=DETECTION_THRESHOLD,
        )
        self._recogniser.prepare(ctx_id=0)
        self.name = Path(folder).name
        self._recall = Recall(RECALLED_BYTES)

    def find(self, photo: Photo) -> list[Face]:
        """Find all faces, largest first. The same photo is searched once.

        A face that fills the frame is larger than the detector's anchors: when nothing is found,
        the photo is tried once more with a border around it.
        """
        return self._recall.get(("faces", content_key(photo)), lambda: self._find(photo))

    def _find(self, photo: Photo) -> list[Face]:
        faces = self._detect(photo)
        if not faces:
            border = max(photo.shape[:2]) // 2
            padded = np.pad(photo, ((border, border), (border, border), (0, 0)))
            faces = [
                Face(face.box - border, face.key_points - border, face.score)
                for face in self._detect(padded)
            ]
        return sorted(faces, key=lambda face: face.area, reverse=True)

    def why_none(self, photo: Photo) -> str:
        """Say why a photo without a found face may be hard, and what to do.

        The search costs several detections; it is made only where `find` found nothing.
        """
        return self._recall.get(("why none", content_key(photo)), lambda: self._why_none(photo))

    def _why_none(self, photo: Photo) -> str:
        turned = {1: "90° to the left", 2: "upside down", 3: "90° to the right"}
        for quarters, direction in turned.items():
            if self._detect(np.rot90(photo, quarters)):
                return f"one appears when the photo is turned {direction}. Turn it that way."
        partial = [face for part in _parts(photo) for face in self._detect(part)]
        if partial:
            left, _, right, _ = max(partial, key=lambda face: face.area).box
            small = ", too small to carry a likeness" if right - left < SMALL_FACE_PX else ""
            return (
                f"one of about {right - left:.0f} px is visible in a part of the photo only{small}. "
                "Crop the photo to the person, or use one that shows the face larger."
            )
        return (
            "the detector sees none, nor with a border around the photo, turned, or in parts of "
            "it. Use a photo in which the face is unobstructed and at least about 100 px wide, or "
            "remove that image."
        )

    def _detect(self, photo: Photo) -> list[Face]:
        boxes, key_points = self._detector.detect(_rgb_to_bgr(photo))
        return [
            Face(box[:4], points, float(box[4]))
            for box, points in zip(boxes, key_points, strict=True)
        ]

    def embed(self, photo: Photo, face: Face) -> np.ndarray:
        """ArcFace embedding of one face, (512,) float32, not normalised. Computed once."""
        key = ("embedding", content_key(photo), face.key_points.tobytes())
        return self._recall.get(key, lambda: self._embed(photo, face))

    def _embed(self, photo: Photo, face: Face) -> np.ndarray:
        from insightface.app.common import Face as InsightFace

        return self._recogniser.get(_rgb_to_bgr(photo), InsightFace(kps=face.key_points))


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(
        path, "The file is damaged or not fully downloaded. Delete it and download it again."
    )


def _incomplete(folder: str | Path) -> CheckpointError:
    return CheckpointError(
        folder,
        "A face detector and an ArcFace recogniser were expected as .onnx files, but the "
        "folder lacks one of them. Unpack antelopev2.zip there again.",
    )


def _parts(photo: Photo) -> Iterator[Photo]:
    """Overlapping parts, each half as wide and high as the photo."""
    height, width = photo.shape[0] // 2, photo.shape[1] // 2
    for row in range(PARTS_ALONG_SIDE):
        for column in range(PARTS_ALONG_SIDE):
            top, left = row * height // 2, column * width // 2
            yield photo[top : top + height, left : left + width]


def sort_faces(faces: list[Face], order: str, photo: Photo) -> list[Face]:
    """Bring faces into one of FACE_ORDERS; equal ones keep their order."""
    height, width = photo.shape[:2]
    middle = np.array((width / 2, height / 2))
    return sorted(faces, key=lambda face: FACE_ORDERS[order](face, middle))


def choose_face(
    analyser: FaceAnalyser,
    photo: Photo,
    order: str = "largest",
    index: int = 0,
    image_index: int = 0,
    image_count: int = 1,
) -> tuple[list[Face], Face]:
    """Find the faces of a photo and take one.

    Args:
        analyser: Finds them.
        photo: (H, W, 3) uint8.
        order: One of FACE_ORDERS.
        index: Place of the wanted face in that order, from 0.
        image_index: Position of the photo in its batch, for the error text.
        image_count: Photos in the batch.

    Returns:
        All faces in that order, and the chosen one.

    Raises:
        NoFaceError: There is none; the text says why, as far as that can be found out.
        FaceIndexError: There are fewer; the text lists them.
    """
    faces = sort_faces(analyser.find(photo), order, photo)
    if not faces:
        raise NoFaceError(image_index, image_count, analyser.why_none(photo))
    if not 0 <= index < len(faces):
        raise FaceIndexError(image_index, image_count, index, tuple(map(str, faces)))
    return faces, faces[index]


def face_warnings(face: Face, crop: Photo) -> tuple[str, ...]:
    """Say why a face may be too poor to carry a likeness.

    Args:
        face: As detected.
        crop: As aligned, (512, 512, 3) uint8.

    Returns:
        One sentence for each reason; none for a good face.
    """
    warnings = []
    width = face.box[2] - face.box[0]
    if width < SMALL_FACE_PX:
        warnings.append(
            f"the face is only {width:.0f} px wide; below {SMALL_FACE_PX} px the likeness suffers."
        )
    sharp = sharpness(crop)
    if sharp < BLURRED_SHARPNESS:
        warnings.append(
            f"the face is blurred (sharpness {sharp:.3f}, a good photo has above 0.08); "
            "use a sharper photo."
        )
    return tuple(warnings)


def sharpness(crop: Photo) -> float:
    """Measure the share of fine detail in a face, at the size that ArcFace looks at.

    Returns:
        Variance of the Laplacian over the variance of the brightness, both of the middle of the
        face at 112 px: near 0 for a blurred face, 0.08 to 0.3 for a sharp one.
    """
    cv2 = _import_cv2()
    small = cv2.resize(crop, (112, 112), interpolation=cv2.INTER_AREA).astype(np.float32)
    gray = small.mean(axis=2)
    middle = (slice(22, -22), slice(22, -22))
    contrast = float(gray[middle].var())
    return float(cv2.Laplacian(gray, cv2.CV_32F)[middle].var()) / max(contrast, 1.0)


def align(photo: Photo, key_points: np.ndarray) -> Photo:
    """Cut a face out in FFHQ position.

    Args:
        photo: (H, W, 3) uint8.
        key_points: (5, 2), x then y, in the pixels of the photo.

    Returns:
        (512, 512, 3) uint8; what lies outside the photo is gray.

    Raises:
        ReferenceImageError: The key points coincide; no detector gives such for a face.
    """
    cv2 = _import_cv2()
    matrix, _ = cv2.estimateAffinePartial2D(
        np.asarray(key_points, dtype=np.float64), FFHQ_TEMPLATE_PX, method=cv2.LMEDS
    )
    if matrix is None or not np.isfinite(matrix).all():
        raise ReferenceImageError(
            f"Five key points of a face were wanted, but the detector gave {key_points.tolist()}. "
            "Use another photo or another face model."
        )
    return cv2.warpAffine(
        photo, matrix, (ALIGNED_SIZE_PX, ALIGNED_SIZE_PX), borderValue=ALIGNED_BORDER_RGB
    )


def _import_cv2() -> Any:
    with importing("opencv-python", "Aligning a face", "cv2"):
        import cv2
    return cv2


def _rgb_to_bgr(photo: Photo) -> np.ndarray:
    return np.ascontiguousarray(photo[..., ::-1])
