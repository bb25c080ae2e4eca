"""Folded identities under ComfyUI's memory management, and the cache that keeps the last ones."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..pulid_core.injection.folding import fold_identity
from ..pulid_core.pulid_file import PulidFile

CACHED_FOLDS = 4  # 126 MB each in 16 bit for 32 tokens; those that a model uses live on with it


class IdentityFolds:
    """The attentions of one checkpoint for one identity, folded when they are first needed.

    Each device gets its own, so that ComfyUI's threads for several GPUs share nothing.
    """

    def __init__(self, file: PulidFile, tokens: Tensor, dtype: torch.dtype, digest: str):
        self.digest = digest
        self._file = file
        self._tokens = tokens
        self._dtype = dtype
        self._patchers: dict[tuple[str, int], ModelPatcher] = {}
        self._lock = threading.Lock()

    def on(self, device: torch.device) -> ModelPatcher:
        """Give the folded attentions that ComfyUI loads to this device."""
        key = (device.type, device.index or 0)  # mps and mps:0 are one device
        with self._lock:
            if key not in self._patchers:
                self._patchers[key] = self._fold(device)
            return self._patchers[key]

    def _fold(self, device: torch.device) -> ModelPatcher:
        offload_device = comfy.model_management.unet_offload_device()
        folded = fold_identity(
            self._attentions(),
            self._tokens,
            self._file.attention_sizes,
            device,
            self._dtype,
            comfy.ops.manual_cast,
        )
        return comfy.model_patcher.CoreModelPatcher(
            folded.to(offload_device), device, offload_device
        )

    def _attentions(self):
        for index in range(self._file.attention_sizes.count):
            comfy.model_management.throw_exception_if_processing_interrupted()
            yield self._file.load_attention(index)

    def models(self) -> list[ModelPatcher]:
        """What has been folded so far."""
        return list(self._patchers.values())


class FoldCache:
    """The identities of one checkpoint that were used last."""

    def __init__(self, file: PulidFile):
        self._file = file
        self._folds: OrderedDict[str, IdentityFolds] = OrderedDict()

    def get(self, tokens: Tensor, dtype: torch.dtype) -> IdentityFolds:
        """Find or prepare the folds of one identity; nothing is computed yet.

        Args:
            tokens: (1, N, 2048) float32 on the CPU.
            dtype: What the image tokens are computed in.
        """
        content = hashlib.blake2b(tokens.detach().contiguous().numpy().data, digest_size=16)
        content.update(f"{self._file.path} {dtype} {tuple(tokens.shape)}".encode())
        digest = content.hexdigest()
        if digest not in self._folds:
            self._folds[digest] = IdentityFolds(self._file, tokens, dtype, digest)
        self._folds.move_to_end(digest)
        while len(self._folds) > CACHED_FOLDS:
            self._folds.popitem(last=False)
        return self._folds[digest]

    def models(self) -> list[ModelPatcher]:
        """What is folded and cached; ComfyUI asks when it accounts for memory."""
        return [model for folds in self._folds.values() for model in folds.models()]
