"""InsightFace's detector and recogniser: every look at a photo is made here, and made once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import CheckpointError, PulidError, importing, quoted
from ..images import Photo, Pixels
from ..result_cache import FACES_BYTES, ResultCache
from .alignment import cut_out
from .detection import DETECTION_SIZE_PX, Face, Pause, look_again, search
from .devices import AUTO_PROVIDER, CPU_PROVIDER

DETECTION_THRESHOLD = 0.5

ARCFACE_RATIO = 0.28
"""Size of a face in ArcFace's 112 px over that in the 512 px crop: the eyes' distances, 35.2 / 125.9."""

ARCFACE_SIZE = 512


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
            except Exception as error:
                raise _damaged(path, error) from error
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
        self.recogniser_path = Path(self._recogniser.model_file)
        self.recall = ResultCache(FACES_BYTES)

    def find(self, photo: Photo, pause: Pause = lambda: None) -> list[Face]:
        """Find all faces, largest first. The same photo is searched once.

        Args:
            photo: In any size.
            pause: Called before every look at the photo; may raise to stop.
        """
        return self.recall.get(
            ("faces", photo.key), lambda: search(photo.pixels, self._detect, pause)
        )

    def settle(self, photo: Photo, face: Face, pause: Pause = lambda: None) -> Face:
        """Look once more at a face that was found, so that its key points are good."""
        key = ("settled", photo.key, face.box.tobytes())
        return self.recall.get(key, lambda: look_again(photo.pixels, face, self._detect, pause))

    def embed(self, photo: Photo, face: Face) -> Tensor:
        """ArcFace embedding of one face, (512,) float32, not normalised. Computed once."""
        key = ("embedding", photo.key, face.key_points.tobytes())
        return self.recall.get(key, lambda: self._embed(photo.pixels, face))

    def _detect(self, pixels: Pixels) -> tuple[np.ndarray, np.ndarray]:
        return self._detector.detect(_rgb_to_bgr(pixels))

    def _embed(self, pixels: Pixels, face: Face) -> Tensor:
        from insightface.app.common import Face as InsightFace

        part, key_points = cut_out(pixels, face.key_points, ARCFACE_RATIO)
        vector = self._recogniser.get(_rgb_to_bgr(part), InsightFace(kps=key_points))
        if vector.shape != (ARCFACE_SIZE,):
            raise CheckpointError(
                self.recogniser_path,
                f"An ArcFace recogniser with {ARCFACE_SIZE} numbers for a face was expected, but this "
                f"one gives {quoted(vector.shape)}. Choose antelopev2.",
            )
        return torch.from_numpy(vector).float()


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        path,
        "The file is damaged or not fully downloaded. Delete it and download it again. ONNX Runtime "
        f"says: {quoted(error)}",
    )


def _incomplete(folder: str | Path) -> CheckpointError:
    return CheckpointError(
        folder,
        "A face detector and an ArcFace recogniser were expected as .onnx files, but the "
        "folder lacks one of them. Unpack antelopev2.zip there again.",
    )


def _rgb_to_bgr(pixels: Pixels) -> np.ndarray:
    return np.ascontiguousarray(pixels[..., ::-1])
