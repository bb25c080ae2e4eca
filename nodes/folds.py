"""Folded identities under ComfyUI's memory management, and the cache that keeps the last ones."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakValueDictionary

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..pulid_core.errors import PulidError
from ..pulid_core.injection.folding import fold_identity
from ..pulid_core.pulid_file import PulidFile

CACHED_FOLDS = 4  # 126 MB each in 16 bit for 32 tokens; those that a model uses live on with it


class CastingOps:
    """Layers that ComfyUI may load in part, and that lend their weights as it casts them."""

    class Linear(comfy.ops.manual_cast.Linear):
        """A linear layer that lends its weights."""

        @contextmanager
        def lent(self, like: Tensor) -> Iterator[tuple[Tensor, Tensor | None]]:
            """Lend weight and bias for products with `like`: as they are, or cast and uploaded."""
            weight, bias, stream = comfy.ops.cast_bias_weight(self, like, offloadable=True)
            try:
                yield weight, bias
            finally:
                comfy.ops.uncast_bias_weight(self, weight, bias, stream)


class WholePatcher(comfy.model_patcher.ModelPatcher):
    """Loads an identity as a whole, for which a FLUX that is loaded in part makes room.

    ComfyUI would leave the smaller model behind that comes second, and every block of every step
    would then upload it: FLUX's own uploads wait for these, which costs far more than their size.
    """

    def partially_load(
        self, device_to: torch.device, extra_memory: float = 0, force_patch_weights: bool = False
    ) -> int:
        """Load everything, unless --novram forbids it."""
        if comfy.model_management.vram_state != comfy.model_management.VRAMState.NO_VRAM:
            extra_memory = 1e32
        return super().partially_load(device_to, int(extra_memory), force_patch_weights)

    def partially_unload(self, *_: Any, **__: Any) -> int:
        """Free nothing, upon which ComfyUI unloads it as a whole."""
        return 0


class IdentityFolds:
    """The attentions of one checkpoint for one identity, folded when they are first needed.

    Each device gets its own, so that ComfyUI's threads for several GPUs share nothing.
    """

    def __init__(self, file: PulidFile, tokens: Tensor, dtype: torch.dtype, digest: str):
        self.digest = digest
        self.file = file
        self._tokens = tokens
        self.dtype = dtype
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
        sizes = self.file.attention_sizes
        folded = fold_identity(
            self._attentions(), self._tokens, sizes, device, self.dtype, CastingOps
        )
        if not all(bool(p.isfinite().all()) for p in folded.parameters()):
            raise PulidError(
                "PulidApplyFlux needs an identity of finite numbers that fit FLUX's "
                f"{self.dtype}, but its tokens reach {float(self._tokens.abs().max()):g}. Encode the "
                "photo again."
            )
        patcher = comfy.model_patcher.CoreModelPatcher
        if (
            patcher is comfy.model_patcher.ModelPatcher
        ):  # else ComfyUI loads weights when they are used
            patcher = WholePatcher
        return patcher(folded.to(offload_device), device, offload_device)

    def _attentions(self):
        for index in range(self.file.attention_sizes.count):
            comfy.model_management.throw_exception_if_processing_interrupted()
            yield self.file.load_attention(index)

    def models(self) -> list[ModelPatcher]:
        """What has been folded so far."""
        return list(self._patchers.values())


class FoldCache:
    """The identities of one checkpoint that were used last, and all that a model still uses."""

    def __init__(self, file: PulidFile):
        self.file = file
        self._room = CACHED_FOLDS
        self._last: OrderedDict[str, IdentityFolds] = OrderedDict()
        self._alive: WeakValueDictionary[str, IdentityFolds] = WeakValueDictionary()

    def get(self, tokens: Tensor, dtype: torch.dtype, room: int = 0) -> IdentityFolds:
        """Find or prepare the folds of one identity; nothing is computed yet.

        Args:
            tokens: (1, N, 2048) float32 on the CPU.
            dtype: What the image tokens are computed in.
            room: How many identities to keep from now on, if more than before: all that one model
                has. ComfyUI drops every model behind a changed node, and those would be folded again.
        """
        content = hashlib.blake2b(tokens.detach().contiguous().numpy().data, digest_size=16)
        content.update(f"{self.file.path} {dtype} {tuple(tokens.shape)}".encode())
        digest = content.hexdigest()
        folds = self._alive.get(digest)
        if folds is None:
            folds = self._alive[digest] = IdentityFolds(self.file, tokens, dtype, digest)
        self._last[digest] = folds
        self._last.move_to_end(digest)
        self._room = max(self._room, room)
        while len(self._last) > self._room:
            self._last.popitem(last=False)
        return folds

    def models(self) -> list[ModelPatcher]:
        """What is folded and cached; ComfyUI asks when it accounts for memory."""
        return [model for folds in self._last.values() for model in folds.models()]
