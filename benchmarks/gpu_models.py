"""A FLUX, a PuLID file and an encoder of random weights on a device, and one sampling with them."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.memory_management
import comfy.model_patcher
import comfy.samplers
import comfy.supported_models
import torch
import torch.nn.functional as F
from comfy.model_patcher import ModelPatcher
from safetensors.torch import save_file
from torch import Tensor, nn

from ..nodes.block_patch import patch_model
from ..nodes.folds import FoldCache
from ..nodes.forward_plan import Application
from ..pulid_core.encoder.idformer import IDFormer, IDFormerSizes
from ..pulid_core.injection.attention import (
    HEAD_DIM,
    NORM_EPS,
    CrossAttentionSizes,
    IdentityCrossAttention,
)
from ..pulid_core.injection.blocks import injected_blocks
from ..pulid_core.injection.spatial_mask import ActsOn
from ..pulid_core.pulid_file import PulidFile

DEVICE = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
DOUBLES, SINGLES = 19, 38  # FLUX.1's depth
ENCODER_SIZES = {
    "latents": (1, 4, 8),
    "proj_out": (8, 2048),
    "id_embedding_mapping.0.weight": (8, 1280),
    "id_embedding_mapping.6.weight": (40, 8),
    "mapping_0.0.weight": (8, 8),
    "layers.0.0.to_q.weight": (8, 8),
    "layers.0.1.1.weight": (32, 8),
}
"""The keys from which PulidFile reads the IDFormer's sizes; it is not run from this file."""


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    width: int = 3072
    heads: int = 24
    context: int = 4096
    inner: int = 2048
    side_px: int = 1024
    text_tokens: int = 512
    steps: int = 4
    rounds: int = 4

    @property
    def image_tokens(self) -> int:
        """16 px a side each."""
        return (self.side_px // 16) ** 2

    @property
    def attentions(self) -> CrossAttentionSizes:
        """Of the PuLID file."""
        return CrossAttentionSizes(20, self.width, 2048, self.inner)


FULL = Scale()
SMALL = Scale(128, 1, 64, 256, 128, 16, 2, 1)


def random_flux(
    scale: Scale, dtype: torch.dtype = torch.bfloat16, cast: torch.dtype | None = None
) -> ModelPatcher:
    """FLUX.1-dev through ComfyUI's own classes, its weights made on the device."""
    config = comfy.supported_models.Flux(
        {
            "image_model": "flux", "in_channels": 16, "out_channels": 16, "vec_in_dim": 768,
            "context_in_dim": scale.context, "hidden_size": scale.width, "mlp_ratio": 4.0,
            "num_heads": scale.heads, "depth": DOUBLES, "depth_single_blocks": SINGLES,
            "axes_dim": [16, 56, 56], "theta": 10000, "patch_size": 2, "qkv_bias": True,
            "guidance_embed": True, "txt_ids_dims": [],
        }
    )  # fmt: skip
    config.set_inference_dtype(dtype, cast)
    is_dynamic = comfy.memory_management.aimdo_enabled
    comfy.memory_management.aimdo_enabled = False  # else layers have no weights before a file
    model = config.get_model({}, "", device=DEVICE)
    comfy.memory_management.aimdo_enabled = is_dynamic
    generator = torch.Generator(device=DEVICE).manual_seed(1)
    for name, parameter in model.diffusion_model.named_parameters():
        values = torch.empty(parameter.shape, device=DEVICE, dtype=torch.bfloat16)
        if name.endswith("scale"):
            values.fill_(1)
        else:
            values.normal_(0, 0.02, generator=generator)
        parameter.data = values.to(parameter.dtype)
    model.diffusion_model.requires_grad_(False).eval()
    patcher = comfy.model_patcher.CoreModelPatcher
    if is_dynamic:  # it fetches weights from there
        model.to("cpu")
    return patcher(model, load_device=DEVICE, offload_device=torch.device("cpu"))


def random_pulid(scale: Scale, path: Path) -> PulidFile:
    """A PuLID-FLUX file with cross attentions of the real shapes, 840 MB at full scale."""
    generator = torch.Generator(device=DEVICE).manual_seed(2)
    with torch.device("meta"):
        shapes = IdentityCrossAttention(scale.attentions).state_dict()
    tensors = {f"pulid_encoder.{k}": torch.zeros(shape) for k, shape in ENCODER_SIZES.items()}
    for index in range(scale.attentions.count):
        for name, meta in shapes.items():
            values = torch.randn(meta.shape, generator=generator, device=DEVICE)
            if name.startswith("norm"):
                values = 0.1 * values + (1 if name.endswith("weight") else 0)
            else:
                values = values * meta.shape[-1] ** -0.5
            tensors[f"pulid_ca.{index}.{name}"] = values.to("cpu", torch.bfloat16)
    save_file(tensors, path)
    return PulidFile.open(path)


def random_idformer(dim: int) -> IDFormer:
    """An IDFormer of the real depth."""
    sizes = IDFormerSizes(
        queries=32, dim=dim, output_dim=2048, condition_dim=1280, id_tokens=5, scales=5,
        layers=10, inner_dim=dim, feed_forward_dim=4 * dim,
    )  # fmt: skip
    former = IDFormer(sizes)
    for parameter in former.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    return former.eval()


def identity(seed: int, tokens: int = 32) -> Tensor:
    return torch.randn(1, tokens, 2048, generator=torch.Generator().manual_seed(seed))


def with_people(
    flux: ModelPatcher,
    cache: FoldCache,
    people: Iterable[int],
    masks: Iterable[Tensor | None] | None = None,
    dtype: torch.dtype = torch.bfloat16,
    end_at: float = 1.0,
    acts_on: ActsOn = "whole picture",
) -> ModelPatcher:
    """Put people on a clone of FLUX, as PulidApplyFlux does."""
    people = list(people)
    file, width = cache.file, flux.model.diffusion_model.hidden_size
    plan = injected_blocks(file.attention_sizes, width, DOUBLES, SINGLES)
    for who, mask in zip(people, masks or [None] * len(people), strict=True):
        person = cache.get(identity(who), dtype, len(people))
        person.on(DEVICE)
        weights = (1.0,) * len(plan)
        schedule = ((0.0, 1.0),)
        application = Application(
            person, None, 0.0, end_at, weights, schedule, mask=mask, acts_on=acts_on
        )
        flux = patch_model(flux, application, plan)
    return flux


class Original(nn.Module):
    """PuLID's own cross attention: keys and values of the identity anew in every step."""

    def __init__(self, attention: IdentityCrossAttention, device: torch.device, dtype: torch.dtype):
        super().__init__()
        self.stored = attention.to(device, dtype)

    def forward(self, image: Tensor, tokens: Tensor) -> Tensor:
        """Image tokens (B, T, D) and identity tokens (1, N, 2048) -> what is added."""
        stored = self.stored
        norm = stored.norm2
        q = stored.to_q(F.layer_norm(image, (image.shape[-1],), norm.weight, norm.bias, NORM_EPS))
        k, v = stored.to_kv(stored.norm1(tokens)).chunk(2, -1)
        q, k, v = (t.unflatten(-1, (stored.heads, HEAD_DIM)).transpose(1, 2) for t in (q, k, v))
        scale = HEAD_DIM**-0.25
        attention = ((q * scale) @ (k * scale).transpose(-2, -1)).float().softmax(-1)
        return stored.to_out((attention.to(image.dtype) @ v).transpose(1, 2).flatten(2))


class OriginalInFlux:
    """Replacement of a block that adds the original's module for each of several people."""

    def __init__(self, module: Original, people: list[Tensor], image_tokens: int):
        self.module, self.people, self.image_tokens = module, people, image_tokens

    def __call__(self, args: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
        """Follow ComfyUI's contract for patches_replace["dit"]."""
        out = extra["original_block"](args)
        text = 0 if "txt" in args else args["transformer_options"]["img_slice"][0]
        return {**out, "img": self.add(out["img"], text)}

    def add(self, image: Tensor, text: int) -> Tensor:
        """Add all people after the text tokens."""
        seen = image[:, text : text + self.image_tokens]
        tokens = seen
        for person in self.people:
            tokens = tokens + self.module(seen, person)
        return torch.cat((image[:, :text], tokens), 1) if text else tokens


def with_original(
    flux: ModelPatcher, modules: list[Original], people: int, scale: Scale
) -> ModelPatcher:
    """Put the original's modules on a clone of FLUX, in bfloat16."""
    patched = flux.clone()
    tokens = [identity(who).to(DEVICE, torch.bfloat16) for who in range(people)]
    plan = injected_blocks(scale.attentions, scale.width, DOUBLES, SINGLES)
    for block, index in plan.items():
        patch = OriginalInFlux(modules[index], tokens, scale.image_tokens)
        patched.set_model_patch_replace(patch, "dit", *block)
    return patched


def sample(
    model: ModelPatcher,
    scale: Scale,
    steps: int | None = None,
    batch: int = 1,
    on_step: Callable[[], object] = lambda: None,
) -> tuple[list[float], Tensor]:
    """ComfyUI's guider and Euler.

    Args:
        model: FLUX.
        scale: How large the picture is.
        steps: How many, else the scale's.
        batch: Pictures at once.
        on_step: Called within the sampling, after each step.

    Returns:
        Seconds of each step but the first, between events on the device; and the latent.
    """
    tokens = torch.randn(
        1, scale.text_tokens, scale.context, generator=torch.Generator().manual_seed(3)
    )
    prompt = [[tokens, {"pooled_output": torch.zeros(1, 768), "guidance": 3.5}]]
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(prompt, prompt)
    guider.set_cfg(1.0)
    side = scale.side_px // 8
    noise = torch.randn(batch, 16, side, side, generator=torch.Generator().manual_seed(4))
    clock = Clock()
    latent = guider.sample(
        noise,
        torch.zeros_like(noise),
        comfy.samplers.sampler_object("euler"),
        torch.linspace(1, 0, (steps or scale.steps) + 1),
        callback=lambda *_: (clock.mark(), on_step()),
        disable_pbar=True,
        seed=1,
    )
    return clock.gaps(), latent


def resident_mib(model: ModelPatcher) -> float:
    """Weights that lie on the device at this moment, whatever ComfyUI's accounts say."""
    parameters = model.model.parameters()
    return sum(p.nbytes for p in parameters if p.device.type == DEVICE.type) / 2**20


class Clock:
    """Times on the device, without waiting for it in between."""

    def __init__(self) -> None:
        self._marks: list[Any] = []

    def mark(self) -> None:
        """Note the time."""
        if DEVICE.type == "cpu":
            self._marks.append(time.perf_counter())
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._marks.append(event)

    def gaps(self) -> list[float]:
        """Seconds between the marks."""
        synchronise()
        pairs = zip(self._marks, self._marks[1:], strict=False)
        if DEVICE.type == "cpu":
            return [after - before for before, after in pairs]
        return [before.elapsed_time(after) / 1e3 for before, after in pairs]


def synchronise() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def repeated(work: Callable[[], object], rounds: int = 5, calls: int = 20) -> list[float]:
    """Seconds that a short piece of work takes the device, each the mean of calls in a row.

    On a GPU the calls are replayed as one graph, since Python takes longer to launch them; within a
    step it runs ahead, and its time does not count.
    """
    if DEVICE.type == "cpu":
        rounds, calls, replay = 1, 1, work
    else:
        graph = torch.cuda.CUDAGraph()
        for _ in range(3):
            work()
        synchronise()
        with torch.cuda.graph(graph):
            for _ in range(calls):
                work()
        replay = graph.replay
    times = []
    for _ in range(rounds + 1):
        clock = Clock()
        clock.mark()
        replay()
        clock.mark()
        times.append(clock.gaps()[0] / calls)
    return times[1:]


def waiting_places(work: Callable[[], object]) -> dict[str, int]:
    """Where in the code the host waits for the device, and how often."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    places: dict[str, int] = {}
    for warning in seen:
        path = Path(warning.filename)
        place = f"{path.parent.name}/{path.name}:{warning.lineno}"
        places[place] = places.get(place, 0) + 1
    return places
