"""PuLID in FLUX.1-dev at full width and depth on one GPU, beside the original's modules.

All weights are random: this is about speed, memory and parity, not about likeness. With `small` everything
is tiny and runs on the CPU as well; what needs a GPU is then left out.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.ops
import torch
import torch.nn.functional as F
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..nodes.folds import FoldCache
from ..pulid_core.encoder.face_parser import FaceParser
from ..pulid_core.encoder.vision_tower import TOWER, VisionTower
from ..pulid_core.injection.attention import Seen
from ..pulid_core.injection.blocks import Share, add_identities
from ..pulid_core.injection.folding import fold_identity
from ..pulid_core.injection.spatial_mask import ActsOn
from .gpu_models import (
    DEVICE,
    DOUBLES,
    FULL,
    SINGLES,
    SMALL,
    Original,
    OriginalInFlux,
    identity,
    random_flux,
    random_idformer,
    random_pulid,
    repeated,
    resident_mib,
    sample,
    synchronise,
    waiting_places,
    with_original,
    with_people,
)
from .gpu_timing import (
    IS_CUDA,
    added,
    allocated_mib,
    difference,
    in_turns,
    spread,
    timed,
)
from .measure import Row

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SMALL_CARD_BYTES = 14 * 2**30
PROMPTS = 50
OUR_FOLDERS = ("nodes/", "injection/")


class GpuBench:
    """Everything that is built once, and one method for each section of the table."""

    def __init__(self, small: bool, folder: Path):
        self.scale = SMALL if small else FULL
        self.is_small = small
        self.folder = folder
        self.step_s: dict[str, float] = {}

    @cached_property
    def file(self) -> Any:
        """A PuLID file."""
        return random_pulid(self.scale, self.folder / "pulid.safetensors")

    @cached_property
    def flux(self) -> ModelPatcher:
        """FLUX in bfloat16."""
        return random_flux(self.scale)

    @cached_property
    def cache(self) -> FoldCache:
        """Folded identities."""
        return FoldCache(self.file)

    @cached_property
    def modules(self) -> list[Original]:
        """The original's cross attentions on the device."""
        count = self.file.attention_sizes.count
        return [Original(self.file.load_attention(i), DEVICE, torch.bfloat16) for i in range(count)]

    def ours(self, people: int, **options: Any) -> ModelPatcher:
        """FLUX with people."""
        return with_people(self.flux, self.cache, range(people), **options)

    def original(self, people: int) -> ModelPatcher:
        """FLUX with people by the original's modules."""
        return with_original(self.flux, self.modules, people, self.scale)

    def halves(self) -> list[Tensor]:
        """Two masks, each one half of the picture."""
        left = torch.zeros(1, 64, 64)
        left[..., :32] = 1
        return [left, 1 - left]

    # Sections

    def folding(self) -> Iterator[Row]:
        """From the file to the folds of one person."""
        times = []
        for _ in range(1 if self.is_small else 3):
            synchronise()
            start = time.perf_counter()
            FoldCache(self.file).get(identity(0), torch.bfloat16).on(DEVICE)
            synchronise()
            times.append(time.perf_counter() - start)
        yield Row("folding one person", times[-1], None, "s", "")

    def steps(self) -> Iterator[Row]:
        """Steps with nobody, and with people, in turns."""
        counts = (1, 2) if self.is_small else (1, 2, 4)
        models = {"nobody": self.flux, "halves": self.ours(2, masks=self.halves())}
        models |= {f"ours {n}": self.ours(n) for n in counts}
        models |= {f"original {n}": self.original(n) for n in counts}
        times, peaks, latents = in_turns(models, self.scale)
        self.step_s = {name: statistics.median(gaps) for name, gaps in times.items()}
        plain = self.step_s["nobody"]
        px = f"{self.scale.side_px} px"
        yield Row(f"step at {px}, nobody", 1e3 * plain, None, "ms", spread(times["nobody"]))
        for n in counts:
            names = (f"ours {n}", f"original {n}")
            ms = [1e3 * self.step_s[name] for name in names]
            spreads = " / ".join(spread(times[name]) for name in names)
            yield Row(f"step at {px}, {n} people", *ms, "ms", spreads)
            more = [100 * (self.step_s[name] / plain - 1) for name in names]
            yield Row(f"added to a step, {n} people", *more, "%", "")
            resident = [fold.model_size() for fold in set(models[names[0]].model_patches_models())]
            bytes_ = (sum(resident), sum(p.nbytes for m in self.modules for p in m.parameters()))
            yield Row(f"resident beside FLUX, {n} people", *(b / 1e6 for b in bytes_), "MB", "")
        peak = (peaks["ours 1"], peaks["nobody"])
        yield Row("peak memory of a step, 1 person and nobody", *peak, "GiB", "")
        halves = [100 * (self.step_s[name] / plain - 1) for name in ("halves", "original 2")]
        yield Row("added to a step, 2 people with a mask each", *halves, "%", "")
        yield Row(
            "latent against the original's, of the identity's effect",
            *(difference(latents["ours 1"], latents["original 1"], latents["nobody"]), None),
            *("%", ""),
        )

    def faces(self) -> Iterator[Row]:
        """People on their faces alone, beside the same people in the whole picture."""
        models = {"nobody": self.flux}
        ways: tuple[tuple[int, ActsOn], ...] = ((1, "face"), (2, "own face"))
        for people, acts_on in ways:
            models |= {f"whole {people}": self.ours(people)}
            models |= {acts_on: self.ours(people, acts_on=acts_on)}
        times, peaks, _ = in_turns(models, self.scale)
        plain = statistics.median(times["nobody"])
        for people, acts_on in ways:
            names = (acts_on, f"whole {people}")
            more = [100 * (statistics.median(times[name]) / plain - 1) for name in names]
            spreads = " / ".join(spread(times[name]) for name in names)
            yield Row(f"added to a step, {people} people on their {acts_on}", *more, "%", spreads)
            peak = [peaks[name] for name in names]
            yield Row(f"peak memory, {people} people on their {acts_on}", *peak, "GiB", "")

    def blocks(self) -> Iterator[Row]:
        """What is added to one block, alone, on fresh buffers."""
        for people in (1, 2) if self.is_small else (1, 2, 4):
            folds = [self.cache.get(identity(who), torch.bfloat16, people) for who in range(people)]
            attentions = [[fold.on(DEVICE).model[0].to(DEVICE)] for fold in folds]
            shares = [Share(slice(0, 1), attention, [1.0], None) for attention in attentions]
            tokens = [identity(who).to(DEVICE, torch.bfloat16) for who in range(people)]
            original = OriginalInFlux(self.modules[0], tokens, self.scale.image_tokens)
            for kind, text in (("double", 0), ("single", self.scale.text_tokens)):
                yield from self._block(f"{people} people, {kind} block", shares, original, text)

    def _block(
        self, name: str, shares: list[Share], original: OriginalInFlux, text: int
    ) -> Iterator[Row]:
        length = text + self.scale.image_tokens
        image = torch.randn(1, length, self.scale.width, device=DEVICE, dtype=torch.bfloat16)
        generated = slice(text, length)
        first = torch.cat([share.attentions[0].scores.weight for share in shares]).t()
        second = torch.cat([share.attentions[0].out.weight for share in shares], 1).t()

        def ours() -> Tensor:
            return add_identities(image, generated, shares, 0, in_place=True)

        def products() -> Tensor:
            return (image[0, generated] @ first) @ second

        times = [repeated(work) for work in (ours, lambda: original.add(image, text), products)]
        us = [1e6 * statistics.median(seconds) for seconds in times]
        yield Row(name, us[0], us[1], "us", " / ".join(map(spread, times[:2])))
        yield Row(f"{name}, against its two matrix products alone", us[0], us[2], "us", "")

    def waits(self) -> Iterator[Row]:
        """How often the host waits for the device: in one sampling, by what added to it."""
        if not IS_CUDA:
            return
        ranged = self.ours(2, masks=self.halves(), end_at=0.9)
        for name, model in (
            ("nobody", self.flux),
            ("1", self.ours(1)),
            ("2, masks, range", ranged),
            ("2, own face", self.ours(2, acts_on="own face")),
        ):
            sample(model, self.scale)
            places = waiting_places(lambda model=model: sample(model, self.scale))
            inside = {place: n for place, n in places.items() if place.startswith(OUR_FOLDERS)}
            title = f"waits for the device in {self.scale.steps} steps, people: {name}"
            yield Row(title, sum(places.values()), None, "", f"of ours: {inside}")

    def memory(self) -> Iterator[Row]:
        """Memory after many prompts, with one and two people in turns, one of them new each time."""
        seen = []
        for prompt in range(4 if self.is_small else PROMPTS):
            people = [prompt % 3, 3 + prompt % 2][: 1 + prompt % 2]
            sample(with_people(self.flux, self.cache, people), self.scale, 1)
            seen.append(allocated_mib())
        middle = seen[len(seen) // 2]
        yield Row(
            f"memory after {len(seen)} prompts, against half as many", seen[-1], middle, "MiB", ""
        )

    def batches(self) -> Iterator[Row]:
        """Two people in batches."""
        for batch in (2,) if self.is_small else (2, 4):
            gaps = [sample(m, self.scale, 3, batch)[0] for m in (self.ours(2), self.flux)]
            ours, plain = (statistics.median(g) for g in gaps)
            more = 100 * (ours / plain - 1)
            yield Row(f"added to a step, 2 people, batch {batch}", more, None, "%", "")

    def parity(self) -> Iterator[Row]:
        """One attention against float64, ours and the original's, from the same inputs."""
        sizes = self.file.attention_sizes
        image = torch.randn(1, 256, self.scale.width, generator=torch.Generator().manual_seed(5))
        image[..., [3, 50]] *= 30
        for dtype in DTYPES:
            seen = image.to(dtype)
            double = Original(self.file.load_attention(0), torch.device("cpu"), torch.float64)
            truth = double(seen.double(), identity(0).double())
            for device in dict.fromkeys((DEVICE, torch.device("cpu"))):
                module = Original(self.file.load_attention(0), device, dtype)
                peer = module(seen.to(device), identity(0).to(device, dtype))
                attention = [self.file.load_attention(0)]
                (folded,) = fold_identity(attention, identity(0), sizes, device, dtype)
                folded = folded.to(device)
                look = folded.look(Seen.of(seen.to(device)), [folded])
                ours = F.linear(look, folded.out.weight)
                errors = (difference(value, truth, 0 * truth) for value in (ours, peer))
                name = str(dtype).removeprefix("torch.")
                yield Row(f"attention against float64, {name}, {device.type}", *errors, "%", "")

    def encoding(self) -> Iterator[Row]:
        """Vision tower and IDFormer: the device against float32 on the CPU."""
        import timm

        width = {"embed_dim": 64, "num_heads": 1} if self.is_small else {}
        torch.manual_seed(0)
        tower = VisionTower(timm.create_model(TOWER, pretrained=False, num_classes=768, **width))
        former = random_idformer(width.get("embed_dim", 1024))
        face, arcface = torch.rand(1, 3, 336, 336), torch.randn(1, 512)

        def encode(device: torch.device, dtype: torch.dtype) -> Tensor:
            states, pooled = tower(face.to(device, dtype))
            return former(torch.cat((arcface.to(device, dtype), pooled), 1), states)

        cpu = torch.device("cpu")
        reference, seconds = timed(lambda: encode(cpu, torch.float32))
        yield Row("encoding a face, float32, on the CPU", 1e3 * seconds, None, "ms", "")
        for dtype in DTYPES[: 1 if self.is_small else None]:
            tower.to(DEVICE, dtype), former.to(DEVICE, dtype)
            encode(DEVICE, dtype)
            tokens, seconds = timed(lambda dtype=dtype: encode(DEVICE, dtype))
            name = str(dtype).removeprefix("torch.")
            yield Row(f"encoding a face, {name}", 1e3 * seconds, None, "ms", "")
            error = difference(tokens, reference, 0 * reference)
            yield Row(f"identity tokens against the CPU's, {name}", error, None, "%", "")
            tower.float().cpu(), former.float().cpu()
        parser, crop = FaceParser().eval().to(DEVICE), torch.rand(1, 3, 512, 512, device=DEVICE)
        parser(crop)
        _, seconds = timed(lambda: parser(crop))
        yield Row("parsing a face", 1e3 * seconds, None, "ms", "")

    def fp8(self) -> Iterator[Row]:
        """FLUX with fp8 weights."""
        flux = random_flux(self.scale, torch.float8_e4m3fn, torch.bfloat16)
        yield added("fp8 weights", flux, with_people(flux, self.cache, [0]), self.scale)

    def partial(self) -> Iterator[Row]:
        """FLUX on a card of 14 GiB: what does not fit is uploaded in every step."""
        if not IS_CUDA or self.flux.is_dynamic():
            return
        management = comfy.model_management
        management.unload_all_models()
        management.soft_empty_cache()
        before = management.EXTRA_RESERVED_VRAM
        management.EXTRA_RESERVED_VRAM = management.get_total_memory(DEVICE) - SMALL_CARD_BYTES
        try:
            sample(self.flux, self.scale, 2)  # fills the card before a person comes
            ours = self.ours(1)  # kept: ComfyUI unpins FLUX's weights when one of its clones goes
            for turn in (1, 2):
                yield added(f"14 GiB, run {turn}", self.flux, ours, self.scale)
            (person,) = self.cache.get(identity(0), torch.bfloat16).models()
            resident: list[float] = []
            models = (person, self.flux)
            sample(ours, self.scale, 1, on_step=lambda: resident.extend(map(resident_mib, models)))
            yield Row("14 GiB, on the card of the person, of FLUX", *resident, "MiB", "")
        finally:
            management.EXTRA_RESERVED_VRAM = before

    def compiled(self) -> Iterator[Row]:
        """Block by block as TorchCompileModel does: inductor, on the CPU without a compiler."""
        from comfy_api.torch_helpers.torch_compile import set_torch_compile_wrapper

        keys = [f"diffusion_model.double_blocks.{i}" for i in range(DOUBLES)]
        keys += [f"diffusion_model.single_blocks.{i}" for i in range(SINGLES)]
        models = [self.flux.clone(), self.ours(1)]
        eager = sample(models[1], self.scale)[1]
        for model in models:
            backend = "inductor" if IS_CUDA else "eager"
            set_torch_compile_wrapper(
                model=model, backend=backend, keys=keys[: 2 if self.is_small else None]
            )
        yield added("compiled", *models, self.scale)
        error = difference(sample(models[1], self.scale)[1], eager, 0 * eager)
        yield Row("compiled against eager, 1 person", error, None, "%", "")


SECTIONS: tuple[Callable[[GpuBench], Iterator[Row]], ...] = (
    *(GpuBench.folding, GpuBench.steps, GpuBench.faces, GpuBench.blocks, GpuBench.waits),
    GpuBench.partial,
    *(GpuBench.fp8, GpuBench.memory, GpuBench.parity, GpuBench.batches, GpuBench.encoding),
    GpuBench.compiled,
)


def run(small: bool, budget_s: float, only: list[str]) -> Iterator[Row]:
    """Run the sections until the time is over; one that fails becomes a row that says so."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        bench = GpuBench(small, Path(folder))
        for section in SECTIONS:
            name = section.__name__
            if only and name not in only:
                continue
            spent = time.monotonic() - start
            if spent > budget_s:
                yield Row(f"{name}: left out", spent, None, "s", "")
                continue
            try:
                yield from section(bench)
            except (RuntimeError, ArithmeticError, LookupError, TypeError, ImportError) as error:
                traceback.print_exc()
                yield Row(f"{name}: FAILED, {type(error).__name__}", spent, None, "s", "")
    yield Row("the whole run", time.monotonic() - start, None, "s", "")


def describe_machine() -> dict[str, str]:
    """What has to be known to compare figures."""
    card = torch.cuda.get_device_name() if IS_CUDA else "none"
    return {"card": card, "torch": torch.__version__}
