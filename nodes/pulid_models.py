"""What a PULID socket carries: the models of one PuLID set-up, under ComfyUI's management."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.utils
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ..pulid_core.encoder.encode import EncoderStages, encode_identity, step_count
from ..pulid_core.encoder.face_parser import load_face_parser
from ..pulid_core.encoder.vision_tower import load_vision_tower
from ..pulid_core.errors import PulidError
from ..pulid_core.face.analyser import FaceAnalyser
from ..pulid_core.face.portrait import DEFAULT_SETTINGS, EncodeSettings, Step
from ..pulid_core.file_hash import HashMemory
from ..pulid_core.identity.identity import Identity
from ..pulid_core.images import Photo, photos_from_image
from ..pulid_core.model_files.catalogue import FACE_RECOGNISER
from ..pulid_core.pulid_file import PulidFile
from ..pulid_core.result_cache import ENCODED_BYTES, ResultCache
from .folds import FoldCache
from .model_files import hash_memory_place

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class PulidPaths:
    """The files that one PulidLoader chose; None where only saved identities are used."""

    pulid_file: Path
    eva_clip_file: Path | None
    face_parsing_file: Path | None
    face_model: Path | None
    provider: str


class Pulid:
    """The models of one PulidLoader. Weights are read when they are first used, once.

    What was computed for a photo is recalled for every node that asks, as long as this object lives:
    ComfyUI drops it with the loader's output, on /free and under memory pressure.

    Raises:
        CheckpointError: The PuLID file is no PuLID-FLUX checkpoint.
    """

    def __init__(self, paths: PulidPaths):
        self.paths = paths
        self.hashes = HashMemory(hash_memory_place())
        self.file = PulidFile.open(paths.pulid_file, self.hashes)
        self.folds = FoldCache(self.file)
        self._recall = ResultCache(ENCODED_BYTES)

    def encode(self, image: Tensor, settings: EncodeSettings = DEFAULT_SETTINGS) -> Identity:
        """Encode the person on one or several photos, or recall the identity from the same photos.

        Args:
            image: (B, H, W, C) in [0, 1].
            settings: Which face, and how several photos are fused.

        Returns:
            The identity, rounded to what a file holds, so that a saved one acts the same.

        Raises:
            PulidError: A photo cannot be used, or a model file is missing or wrong.
        """
        photos = photos_from_image(image)
        key = (*(photo.key for photo in photos), settings)
        return self._recall.get(key, lambda: self._encode(photos, settings).rounded())

    def _encode(self, photos: list[Photo], settings: EncodeSettings) -> Identity:
        stages = EncoderStages(
            self.faces,
            self._parser.model,
            self._vision.model,
            self._encoder.model,
            checkpoint=self.file,
            recall=self._recall,
        )
        with _loaded([self._parser, self._vision, self._encoder]):
            on_step = step_callback(step_count(len(photos)))
            identity = encode_identity(photos, stages, settings, on_step)
        LOGGER.info("PuLID encoded an identity from %d photo(s)", len(photos))
        return identity

    @cached_property
    def faces(self) -> FaceAnalyser:
        """Detector and recogniser, shared by all nodes."""
        return FaceAnalyser(_needed(self.paths.face_model, "face_model"), self.paths.provider)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What is unusual about the models that encode; other packs, too, have a glintr100.onnx."""
        if self.hashes.sha256(self.faces.recogniser_path) == FACE_RECOGNISER.sha256:
            return ()
        return (
            f"{self.faces.recogniser_path.name} of the face model {self.faces.name} is not the recogniser "
            "that PuLID was trained with: faces can be compared with it, but the person it encodes "
            "resembles the photo less. Take antelopev2.zip from docs/models.md.",
        )

    @cached_property
    def _parser(self) -> ModelPatcher:
        return _plain_patcher(
            load_face_parser(_needed(self.paths.face_parsing_file, "face_parsing_file"))
        )

    @cached_property
    def _vision(self) -> ModelPatcher:
        return _plain_patcher(load_vision_tower(_needed(self.paths.eva_clip_file, "eva_clip_file")))

    @cached_property
    def _encoder(self) -> ModelPatcher:
        # Casting layers: it may be loaded in part.
        return comfy.model_patcher.CoreModelPatcher(
            self.file.load_encoder(comfy.ops.manual_cast),
            comfy.model_management.text_encoder_device(),
            comfy.model_management.text_encoder_offload_device(),
        )

    def get_models(self) -> list[ModelPatcher]:
        """The models loaded so far; ComfyUI asks when it accounts for memory."""
        stages = [value for value in vars(self).values() if isinstance(value, ModelPatcher)]
        return stages + self.folds.models()


def step_callback(count: int) -> Step:
    """Give what long work calls many times a second: it shows the progress, and stops after Cancel."""
    progress = comfy.utils.ProgressBar(count)

    def on_step(steps: int = 1, /) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        progress.update(steps)

    return on_step


def _needed(path: Path | None, widget: str) -> Path:
    if path is None:
        raise PulidError(
            f"Looking at a photo needs PulidLoader's {widget}, but that is set to none. "
            "Choose a model there, or connect a saved identity instead of the photo."
        )
    return path


def _plain_patcher(module: nn.Module) -> ModelPatcher:
    """Manage a module of torch layers: it is loaded as a whole or not at all."""
    return ModelPatcher(
        module,
        comfy.model_management.text_encoder_device(),
        comfy.model_management.text_encoder_offload_device(),
    )


@contextmanager
def _loaded(patchers: list[ModelPatcher]) -> Iterator[None]:
    """Have models on their device for a while, and offload them afterwards."""
    comfy.model_management.load_models_gpu(patchers, force_full_load=True)
    try:
        yield
    finally:
        others = [
            loaded
            for loaded in comfy.model_management.current_loaded_models
            if loaded.model not in patchers
        ]
        for device in {patcher.load_device for patcher in patchers}:
            comfy.model_management.free_memory(1e30, device, others)
