"""What a PULID socket carries: the models of one PuLID set-up, under ComfyUI's management."""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
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

from ..pulid_core.faces import FaceAnalyser
from ..pulid_core.identity import EncoderStages, Identity, encode_identity, step_count
from ..pulid_core.images import photos_from_image
from ..pulid_core.parsing import load_face_parser
from ..pulid_core.pulid_file import PulidFile
from ..pulid_core.vision import load_vision_tower
from .folds import FoldCache

LOGGER = logging.getLogger(__name__)

CACHED_IDENTITIES = 16  # about 0.5 MB of tokens and 6 MB of crops per photo


@dataclass(frozen=True)
class PulidPaths:
    """The files that one PulidLoader chose."""

    pulid: Path
    eva_clip: Path
    face_parsing: Path
    face_model: Path
    provider: str


class Pulid:
    """The models of one PulidLoader. Weights are read when they are first used, once.

    Raises:
        CheckpointError: The PuLID file is no PuLID-FLUX checkpoint.
    """

    def __init__(self, paths: PulidPaths):
        self.paths = paths
        self.file = PulidFile.open(paths.pulid)
        self.folds = FoldCache(self.file)
        self._identities: OrderedDict[str, Identity] = OrderedDict()

    def encode(self, image: Tensor) -> Identity:
        """Encode the person on one or several photos, or recall the identity from the same photos.

        Args:
            image: (B, H, W, C) in [0, 1].

        Raises:
            PulidError: A photo cannot be used, or a model file is missing or wrong.
        """
        key = _content_hash(image)
        if key not in self._identities:
            self._identities[key] = self._encode(image)
        self._identities.move_to_end(key)
        while len(self._identities) > CACHED_IDENTITIES:
            self._identities.popitem(last=False)
        return self._identities[key]

    def _encode(self, image: Tensor) -> Identity:
        photos = photos_from_image(image)
        progress = comfy.utils.ProgressBar(step_count(len(photos)))

        def on_step() -> None:
            comfy.model_management.throw_exception_if_processing_interrupted()
            progress.update(1)

        stages = EncoderStages(
            self._faces, self._parser.model, self._vision.model, self._encoder.model
        )
        with _loaded([self._parser, self._vision, self._encoder]):
            identity = encode_identity(photos, stages, on_step)
        LOGGER.info("PuLID encoded an identity from %d photo(s)", len(photos))
        return identity

    @cached_property
    def _faces(self) -> FaceAnalyser:
        return FaceAnalyser(self.paths.face_model, self.paths.provider)

    @cached_property
    def _parser(self) -> ModelPatcher:
        return _plain_patcher(load_face_parser(self.paths.face_parsing))

    @cached_property
    def _vision(self) -> ModelPatcher:
        return _plain_patcher(load_vision_tower(self.paths.eva_clip))

    @cached_property
    def _encoder(self) -> ModelPatcher:
        return _casting_patcher(
            self.file.load_encoder(comfy.ops.manual_cast),
            comfy.model_management.text_encoder_offload_device(),
        )

    def get_models(self) -> list[ModelPatcher]:
        """The models loaded so far; ComfyUI asks when it accounts for memory."""
        stages = [value for value in vars(self).values() if isinstance(value, ModelPatcher)]
        return stages + self.folds.models()


def _casting_patcher(module: nn.Module, offload_device) -> ModelPatcher:
    """Manage a module of ComfyUI's casting layers: it may be loaded in part."""
    return comfy.model_patcher.CoreModelPatcher(
        module, comfy.model_management.get_torch_device(), offload_device
    )


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


def _content_hash(image: Tensor) -> str:
    array = image.detach().cpu().contiguous().numpy()
    return hashlib.blake2b(array.data, salt=str(array.shape).encode()[:16]).hexdigest()
