"""Stand-ins for nodes of other packs that swap FLUX's forward, or run it on parts of the picture.

Each is a function model -> patched clone, as a node of that pack leaves it. The forwards run ComfyUI's
own and hide from the blocks' replacements what the packs' copies of it do not hand on.
"""

import inspect
from unittest.mock import patch

import torch


def swapped(model, forward):
    """Swap the forward for each call of the model, as TeaCache and Comfy-WaveSpeed do."""
    patched = model.clone()
    flux = patched.get_model_object("diffusion_model")
    original = flux.forward_orig

    def run(*args, **kwargs):
        given = inspect.signature(original).bind(*args, **kwargs).arguments  # by place or by name
        options = given.pop("transformer_options")
        return forward(original, given, options)

    def wrapper(apply_model, call):
        with patch.object(flux, "forward_orig", run):
            return apply_model(call["input"], call["timestep"], **call["c"])

    patched.set_model_unet_function_wrapper(wrapper)
    return patched


class Hiding:
    """A replacement of a block, called with less than ComfyUI hands over."""

    def __init__(self, replacement, options, extra):
        self.replacement, self.options, self.extra = replacement, options, extra

    def __call__(self, args, extra):
        less = {key: value for key, value in args.items() if key != "transformer_options"}

        def block(changed):
            return extra["original_block"]({**changed, "transformer_options": self.options})

        return self.replacement(less, {"original_block": block, **self.extra})


def hide_options(options, in_extra=False):
    """Transformer options with which ComfyUI's forward calls replacements as a foreign one does."""
    extra = {"transformer_options": options} if in_extra else {}
    blocks = options.get("patches_replace", {}).get("dit", {})
    hiding = {key: Hiding(replacement, options, extra) for key, replacement in blocks.items()}
    return {**options, "patches_replace": {**options.get("patches_replace", {}), "dit": hiding}}


def drops_options(model):
    """TeaCache's forward: blocks get no transformer_options, so no img_slice either."""

    def forward(original, given, options):
        return original(**given, transformer_options=hide_options(options))

    return swapped(model, forward)


def keeps_options_in_extra(model):
    """Comfy-WaveSpeed's and Patches_ll's: the options are in `extra` instead."""

    def forward(original, given, options):
        return original(**given, transformer_options=hide_options(options, True))

    return swapped(model, forward)


def skips_all_blocks(model, every=2):
    """TeaCache with hits: every second forward pass gives what the one before gave."""
    seen = []

    def forward(original, given, options):
        if len(seen) % every:
            seen.append(seen[-1])
        else:
            seen.append(original(**given, transformer_options=hide_options(options)))
        return seen[-1].clone()

    return swapped(model, forward)


def skips_all_but_the_first_block(model, every=2):
    """First Block Cache with hits: every second forward pass runs double block 0 alone."""
    calls, residuals = [], {}

    def remember(key, replacement):
        def run(args, extra):
            before = args["img"].clone()
            out = replacement(args, extra) if replacement else extra["original_block"](args)
            residuals[key] = out["img"] - before
            return out

        return run

    def repeat(key):
        return lambda args, _: {**args, "img": args["img"] + residuals[key]}

    def forward(original, given, options):
        options = hide_options(options, True)
        blocks = options["patches_replace"]["dit"]
        flux = original.__self__
        keys = [("double_block", i) for i in range(1, len(flux.double_blocks))]
        keys += [("single_block", i) for i in range(len(flux.single_blocks))]
        is_hit = len(calls) % every
        calls.append(is_hit)
        for key in keys:
            blocks[key] = repeat(key) if is_hit else remember(key, blocks.get(key))
        return original(**given, transformer_options=options)

    return swapped(model, forward)


FORWARDS = (drops_options, keeps_options_in_extra)
CACHES = (skips_all_blocks, skips_all_but_the_first_block)


def tiled(model, tiles, at_once, around=lambda tile: tile):
    """Tiled Diffusion: several tiles in one call, each with all of its passes.

    Args:
        model: To be cloned.
        tiles: (top, left) of each, half the picture high and wide; beyond the border it goes on at the
            other side.
        at_once: Tiles in one call.
        around: What else happens to a tile.
    """
    patched = model.clone()

    def wrapper(apply_model, call):
        x, c = call["input"], call["c"]
        height, width = x.shape[-2] // 2, x.shape[-1] // 2
        out = torch.zeros_like(x)
        for first in range(0, len(tiles), at_once):
            group = tiles[first : first + at_once]
            cut = [x.roll((-top, -left), (-2, -1))[..., :height, :width] for top, left in group]
            repeated = {
                key: torch.cat([value] * len(group)) if isinstance(value, torch.Tensor) else value
                for key, value in c.items()
            }
            times = torch.cat([call["timestep"]] * len(group))
            result = apply_model(torch.cat([around(tile) for tile in cut]), times, **repeated)
            for (top, left), tile in zip(group, result.chunk(len(group)), strict=True):
                place = torch.zeros_like(x)
                place[..., :height, :width] = tile
                out += place.roll((top, left), (-2, -1))
        return out

    patched.set_model_unet_function_wrapper(wrapper)
    return patched


QUARTERS = ((0, 0), (0, 8), (8, 0), (8, 8))
"""Of a latent of 16 x 16."""
