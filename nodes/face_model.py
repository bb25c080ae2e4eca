"""PulidLoadFaceModel: detector and recogniser alone, for whoever compares faces."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ..pulid_core.face.analyser import FaceAnalyser
from ..pulid_core.face.devices import AUTO_PROVIDER, provider_choices
from ..pulid_core.model_files.catalogue import FACE_MODEL
from .model_files import face_model_choices, find_face_model
from .sockets import FaceModelSocket
from .values import require_values
from .workers import naming_worker


class FaceModel:
    """What a PULID_FACE_MODEL socket carries: an InsightFace pack, read when it is first used."""

    def __init__(self, folder: Path, provider: str):
        self._folder, self._provider = folder, provider

    @cached_property
    def faces(self) -> FaceAnalyser:
        """Detector and recogniser, shared by all nodes."""
        return FaceAnalyser(self._folder, self._provider)


class PulidLoadFaceModel(io.ComfyNode):
    """Finds an InsightFace pack."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="PulidLoadFaceModel",
            display_name="Load Face Model",
            category="PuLID FLUX/identity",
            description="Chooses the face detector and recogniser alone, to compare faces on pictures "
            "of any model: neither PuLID nor FLUX is needed. Nothing is downloaded; the files are read "
            "when they are first used. The licence of antelopev2 allows non-commercial use only.",
            search_aliases=["pulid", "insightface", "arcface", "likeness", "face analysis"],
            inputs=[
                io.Combo.Input(
                    "face_model",
                    options=face_model_choices(),
                    default=FACE_MODEL,
                    tooltip="InsightFace pack under models/insightface/models. PuLID was trained with "
                    "antelopev2: to judge PuLID's own pictures, another recogniser is the fairer judge.",
                ),
                io.Combo.Input(
                    "provider",
                    options=provider_choices(),
                    default=AUTO_PROVIDER,
                    tooltip="Where the face detector runs. auto is the CPU: it runs once per picture "
                    "and takes no GPU memory.",
                ),
            ],
            outputs=[
                FaceModelSocket.Output(
                    display_name="face_model",
                    tooltip="For PuLID Likeness Gate and PuLID Face Similarity.",
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, **choices: str | None) -> bool:
        """Say at queue time which files are missing; a linked name is known only at execution.

        Raises:
            MissingFilesError: With all files that are missing.
        """
        with naming_worker():
            _files(**choices)
        return True

    @classmethod
    def fingerprint_inputs(cls, **choices: str | None) -> Any:
        """Load again when a file of the pack was replaced."""
        stats = [(file, file.stat()) for file in _files(**choices)]
        return [(str(file), stat.st_mtime_ns, stat.st_size) for file, stat in stats]

    @classmethod
    def execute(cls, face_model: str, provider: str) -> io.NodeOutput:
        """Hand out the pack."""
        require_values(
            cls, names={"face_model", "provider"}, face_model=face_model, provider=provider
        )
        return io.NodeOutput(FaceModel(find_face_model(face_model), provider))


def _files(face_model: str | None = None, **_: str | None) -> list[Path]:
    return sorted(find_face_model(face_model).glob("*.onnx")) if face_model else []
