"""What it costs to add identities to FLUX: ours against diffusers' copy of PuLID's module."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pulid_pack.pulid_core.injection.attention import (
    CrossAttentionSizes,
    IdentityAttentions,
    IdentityCrossAttention,
    Seen,
)
from pulid_pack.pulid_core.injection.blocks import Share, add_identities
from pulid_pack.pulid_core.injection.folding import fold_identity
from pulid_pack.pulid_core.injection.masks import TokenMask
from pulid_pack.pulid_core.injection.spatial_mask import Focus, Grid
from torch import Tensor, nn

from .measure import Row, Timing, side_by_side, timed_row

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # diffusers warns about optional packages on import
    from diffusers.models.transformers.consisid_transformer_3d import PerceiverCrossAttention

SIZES = CrossAttentionSizes(count=20, image_dim=3072, identity_dim=2048, inner_dim=2048)
TOKENS = 32  # of one photo
REPEATS = 7

# The slice of FLUX: whole blocks of the real width, fewer of them and a small picture.
SLICE_DOUBLES, SLICE_SINGLES = 1, 2  # 2.5 GB
SLICE_IMAGE_TOKENS, SLICE_TEXT_TOKENS = 4096, 512  # 1024 x 1024 px
SLICE_REPEATS = 2


def run(_: Path) -> Iterator[Row]:
    """Measure everything; the weights are random and need no models folder."""
    with torch.inference_mode():
        for part in PARTS:
            yield from part()


def one_attention() -> Iterator[Row]:
    """One identity after one block, growing pictures; then without what only a product costs."""
    peer, attentions, identity = make_peer(), fold(make_identity()), make_identity()
    for size in (1024, 4096, 9216):
        image = torch.randn(1, size, SIZES.image_dim)
        timings = side_by_side(
            adding(image, [share(attentions)]),
            lambda image=image: image + peer(identity, image),
            products(image, attentions[0]),
            repeats=REPEATS,
        )
        yield timed_row(f"one attention, {size} image tokens", *timings[:2])
        name = f"one attention, {size} image tokens, against its two matrix products alone"
        yield timed_row(name, timings[0], timings[2])


def accuracy() -> Iterator[Row]:
    """Distance from float64 in bfloat16, of one attention from the same weights and inputs."""
    identity, image = make_identity().bfloat16(), torch.randn(1, 192, SIZES.image_dim).bfloat16()
    stored = make_peer().bfloat16()
    peer = stored(identity, image).double()
    truth = stored.double()(identity.double(), image.double())
    attention = IdentityCrossAttention(SIZES)
    attention.load_state_dict(stored.state_dict())
    (folded,) = fold(identity.float(), torch.bfloat16, [attention.requires_grad_(False)])
    ours = F.linear(folded.look(Seen.of(image), [folded]), folded.out.weight).double()
    errors = [100 * float((x - truth).norm() / truth.norm()) for x in (ours, peer)]
    yield Row("error of one attention, bfloat16", *errors, "%", "")


def memory() -> Iterator[Row]:
    """Bytes that stay with FLUX for one identity, 16 bit."""
    (module,) = fold(make_identity(), torch.bfloat16)
    ours = SIZES.count * sum(p.nbytes for p in module.parameters())
    with torch.device("meta"):
        peer = SIZES.count * sum(p.nbytes for p in make_module().bfloat16().parameters())
    yield Row("resident, one identity, 16 bit", ours / 1e6, peer / 1e6, "MB", "")


def folding_time() -> Iterator[Row]:
    """All attentions of a checkpoint, whose 16-bit weights are in memory."""
    stored = make_stored().bfloat16()

    def attentions() -> Iterator[IdentityCrossAttention]:
        for _ in range(SIZES.count):
            with torch.device("meta"):
                copy = IdentityCrossAttention(SIZES)
            copy.load_state_dict(stored.state_dict(), assign=True)
            yield copy

    (timing,) = side_by_side(lambda: fold(make_identity(), torch.bfloat16, attentions()), repeats=3)
    yield timed_row(f"folding {SIZES.count} attentions", timing, unit="s")


def several_identities() -> Iterator[Row]:
    """Several people in one block, 4096 image tokens; the peer runs its module once for each."""
    peer = make_peer()
    image = torch.randn(1, 4096, SIZES.image_dim)
    for people in (2, 4):
        identities = [make_identity() for _ in range(people)]
        folds = [fold(identity) for identity in identities]
        parts = [region(people, who, 4096) for who in range(people)]
        masked = [share(f, mask) for f, mask in zip(folds, parts, strict=True)]

        def theirs(identities=identities) -> Tensor:
            return sum((peer(identity, image) for identity in identities), image)

        ours = adding(image, [share(f) for f in folds])
        timings = side_by_side(ours, theirs, adding(image, masked), repeats=REPEATS)
        yield timed_row(f"one block with {people} identities, 4096 image tokens", *timings[:2])
        name = f"one block with {people} identities, a part of the picture each"
        yield timed_row(name, timings[2], timings[1])


def only_the_face() -> Iterator[Row]:
    """Finding each person's face and acting there; the peer is ours that acts everywhere."""
    image = torch.randn(1, 4096, SIZES.image_dim)
    grid = Grid.of(64, 64, image.device)
    for people in (1, 2):
        folds = [fold(make_identity()) for _ in range(people)]
        focus = Focus(grid, lowest=0.0, floor=0.0, finds_face=True, has_rivals=people > 1)
        timings = side_by_side(
            adding(image, [share(f, focus=focus) for f in folds]),
            adding(image, [share(f) for f in folds]),
            repeats=3 * REPEATS,
        )
        name = f"one block with {people} identities on their faces alone, against everywhere"
        yield timed_row(name, *timings)


def more_tokens() -> Iterator[Row]:
    """Photos side by side: the folded form grows, the key/value form takes over at 134 tokens."""
    peer = make_peer()
    image = torch.randn(1, 1024, SIZES.image_dim)
    for photos in (2, 4, 5, 10):
        identity = make_identity(TOKENS * photos)
        attentions = fold(identity)
        timings = side_by_side(
            adding(image, [share(attentions)]),
            lambda identity=identity: image + peer(identity, image),
            repeats=REPEATS,
        )
        form = type(attentions[0]).__name__
        yield timed_row(f"{photos} photos ({form}), 1024 image tokens", *timings)


def slice_of_flux() -> Iterator[Row]:
    """ComfyUI's own blocks; the injected part is timed inside the step, step times are not
    subtracted, since they scatter by more than PuLID costs."""
    try:
        step = make_step()
    except ModuleNotFoundError:
        return
    peer, identity = make_peer(), make_identity()
    shares = [share(fold(identity))]

    def ours(image: Tensor, generated: slice) -> Tensor:
        return add_identities(image, generated, shares, 0, in_place=True)

    def theirs(image: Tensor, generated: slice) -> Tensor:
        tokens = image[:, generated]
        tokens = tokens + peer(identity, tokens)
        return torch.cat((image[:, : generated.start], tokens), dim=1)

    totals: dict[Any, list[float]] = {ours: [], theirs: []}
    injected: dict[Any, list[float]] = {ours: [], theirs: []}
    for add in (ours, theirs) * (SLICE_REPEATS + 1):
        total, part = step(add)
        totals[add].append(total)
        injected[add].append(part)
    parts = {add: Timing(times[1:]) for add, times in injected.items()}
    yield timed_row("slice of FLUX: injected part of a step", parts[ours], parts[theirs])
    steps = {add: Timing(times[1:]) for add, times in totals.items()}
    yield timed_row("slice of FLUX: whole step", steps[ours], steps[theirs], unit="s")
    shares_of_step = [100 * parts[add].median / steps[add].median for add in (ours, theirs)]
    yield Row("slice of FLUX: injected share of a step", *shares_of_step, "%", "")
    floor = 100 * injected_flop() / slice_flop()
    name = "slice of FLUX: injected share of a step, against its share of the multiplications"
    yield Row(name, shares_of_step[0], floor, "%", "")


def injected_flop() -> float:
    """Multiplications of the two products after one block."""
    return 2.0 * SLICE_IMAGE_TOKENS * SIZES.image_dim * SIZES.heads * TOKENS


def slice_flop() -> float:
    """Multiplications of the slice's layers and attentions."""
    width, text, image = SIZES.image_dim, SLICE_TEXT_TOKENS, SLICE_IMAGE_TOKENS
    layers = 12 * width**2 * (text + image) * (SLICE_DOUBLES + SLICE_SINGLES)
    return layers + 2 * (text + image) ** 2 * width * (SLICE_DOUBLES + SLICE_SINGLES)


def make_step() -> Callable[[Callable[[Tensor, slice], Tensor]], tuple[float, float]]:
    """Build the slice; the result runs one step and gives (seconds, seconds of the injection)."""
    import comfy.ops
    from comfy.ldm.flux.model import Flux

    flux = Flux(
        in_channels=16, out_channels=16, vec_in_dim=768, context_in_dim=4096, hidden_size=3072,
        mlp_ratio=4.0, num_heads=24, depth=SLICE_DOUBLES, depth_single_blocks=SLICE_SINGLES,
        axes_dim=[16, 56, 56], theta=10000, patch_size=2, qkv_bias=True, guidance_embed=True, txt_ids_dims=[],
        dtype=torch.float32, operations=comfy.ops.disable_weight_init,
    )  # fmt: skip
    for parameter in flux.parameters():
        parameter.data = torch.empty_like(parameter).uniform_(-0.02, 0.02)
    side = int(SLICE_IMAGE_TOKENS**0.5) * 2
    inputs = (
        torch.randn(1, 16, side, side),
        torch.tensor([0.5]),
        torch.randn(1, SLICE_TEXT_TOKENS, 4096),
        torch.randn(1, 768),
        torch.tensor([3.5]),
    )

    def step(add: Callable[[Tensor, slice], Tensor]) -> tuple[float, float]:
        injected = []

        def patch(args: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
            out = extra["original_block"](args)
            start = time.perf_counter()
            text = 0 if "txt" in args else SLICE_TEXT_TOKENS
            out["img"] = add(out["img"], slice(text, text + SLICE_IMAGE_TOKENS))
            injected.append(time.perf_counter() - start)
            return out

        blocks = {("double_block", 0): patch}
        start = time.perf_counter()
        flux(*inputs, transformer_options={"patches_replace": {"dit": blocks}})
        return time.perf_counter() - start, sum(injected)

    return step


PARTS = (
    *(one_attention, accuracy, memory, folding_time),
    *(several_identities, only_the_face, more_tokens, slice_of_flux),
)


# What is measured


def make_module() -> PerceiverCrossAttention:
    return PerceiverCrossAttention(dim=3072, dim_head=128, heads=16, kv_dim=2048)


def make_peer() -> PerceiverCrossAttention:
    torch.manual_seed(0)
    return make_module().eval().requires_grad_(False)


def make_stored() -> IdentityCrossAttention:
    stored = IdentityCrossAttention(SIZES)
    stored.load_state_dict(make_peer().state_dict())
    return stored


def make_identity(tokens: int = TOKENS) -> Tensor:
    return torch.randn(1, tokens, SIZES.identity_dim)


def fold(
    identity: Tensor,
    dtype: torch.dtype = torch.float32,
    attentions: Iterable[IdentityCrossAttention] | None = None,
) -> IdentityAttentions:
    attentions = [make_stored()] if attentions is None else attentions
    return fold_identity(attentions, identity, SIZES, "cpu", dtype)


def region(people: int, who: int, tokens: int) -> TokenMask | None:
    """One of several equal parts of the picture."""
    weights = (torch.arange(tokens) * people // tokens == who).float().unsqueeze(1)
    return TokenMask.of(weights, torch.device("cpu"), torch.float32)


def adding(image: Tensor, shares: list[Share]) -> Callable[[], Tensor]:
    """What happens after one block, as in ComfyUI: in place."""
    return lambda: add_identities(image, slice(0, image.shape[1]), shares, 0, in_place=True)


def products(image: Tensor, attention: Any) -> Callable[[], Tensor]:
    """The two matrix products of an attention and nothing else."""
    first, second = attention.scores.weight.t(), attention.out.weight.t()
    return lambda: (image @ first) @ second


def share(
    attentions: IdentityAttentions, mask: TokenMask | None = None, focus: Focus | None = None
) -> Share:
    modules: list[nn.Module] = list(attentions)
    return Share(slice(0, 1), modules, [1.0] * len(modules), mask, focus)
