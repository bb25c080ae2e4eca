"""Small models in ComfyUI's hands, and one function for each thing a graph does with them."""

from pathlib import Path

import comfy.sample
import comfy.samplers
import comfy.sd
import torch
from comfy.patcher_extension import WrappersMP
from comfy_api.internal import make_locked_method_func
from pulid_pack.devtools import tiny_shapes, tiny_stage
from pulid_pack.nodes.apply_flux import PulidApplyFlux
from pulid_pack.nodes.forward_plan import KEY
from pulid_pack.nodes.pulid_models import Pulid, PulidPaths
from pulid_pack.pulid_core.identity.identity import Identity
from safetensors.torch import save_file

LOST = "A node that comes later in the graph"
"""What is said when another pack's patch replaced ours."""
WIDTH, CONTEXT, POOLED = 128, 64, 768
DOUBLES, SINGLES = 3, 5
ATTENTIONS = 4  # after double blocks 0 and 2, single blocks 0 and 4
ENCODER_SIZES = {
    "latents": (1, 4, 8),
    "proj_out": (8, 2048),
    "id_embedding_mapping.0.weight": (8, 1280),
    "id_embedding_mapping.6.weight": (40, 8),
    "mapping_0.0.weight": (8, 8),
    "layers.0.0.to_q.weight": (8, 8),
    "layers.0.1.1.weight": (32, 8),
}
"""The keys from which PulidFile reads the IDFormer's sizes; these tests never run it."""


def flux_shapes(doubles=DOUBLES, singles=SINGLES, width=WIDTH, in_channels=16):
    for name, shape in tiny_shapes.flux_shapes():
        kind, _, rest = name.partition("_blocks.")
        if rest and int(rest.split(".")[0]) >= (doubles if kind == "double" else singles):
            continue
        if name == "img_in.weight":
            shape = (width, in_channels * 4)
        yield name, tuple(size // WIDTH * width if size % WIDTH == 0 else size for size in shape)


def pulid_shapes(attentions=ATTENTIONS, width=WIDTH):
    for name, shape in ENCODER_SIZES.items():
        yield f"pulid_encoder.{name}", shape
    for i in range(attentions):
        yield from tiny_shapes.perceiver(f"pulid_ca.{i}", context=2048, width=width, inner=256)


def identity(seed=0, tokens=32, nobody=32):
    generator = torch.Generator().manual_seed(seed)
    return Identity(
        tokens=torch.randn(1, tokens, 2048, generator=generator),
        uncond_tokens=torch.randn(1, nobody, 2048, generator=torch.Generator().manual_seed(99)),
        arcface_embeddings=torch.zeros(1, 512),
        crops=torch.zeros(1, 8, 16, 3),
    )


def prompt(seed=1, tokens=16, **extra):
    """CONDITIONING as a text encode node and FluxGuidance give it."""
    generator = torch.Generator().manual_seed(seed)
    return [
        [
            torch.randn(1, tokens, CONTEXT, generator=generator),
            {
                "pooled_output": torch.randn(1, POOLED, generator=generator),
                "guidance": 3.5,
                **extra,
            },
        ]
    ]


def latent(height=8, width=8, batch=1, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 16, height, width, generator=generator)


def sample(model, positive=None, negative=None, cfg=1.0, steps=3, start=None, **options):
    """KSampler: euler, simple. Without `start` from an empty 8 x 8 latent."""
    positive = prompt() if positive is None else positive
    negative = prompt(seed=2) if negative is None else negative
    start = torch.zeros(1, 16, 8, 8) if start is None else start
    noise = comfy.sample.prepare_noise(start, 5)
    options = {"denoise": 1.0, "seed": 5, "disable_pbar": True, **options}
    scheduler = options.pop("scheduler", "simple")
    return comfy.sample.sample(
        model, noise, steps, cfg, "euler", scheduler, positive, negative, start, **options
    )


def guide(guider, sigmas=(1.0, 0.7, 0.3, 0.0), start=None):
    """SamplerCustomAdvanced with euler."""
    start = torch.zeros(1, 16, 8, 8) if start is None else start
    noise = comfy.sample.prepare_noise(start, 5)
    sampler = comfy.samplers.sampler_object("euler")
    return guider.sample(noise, start, sampler, torch.tensor(sigmas), disable_pbar=True, seed=5)


def execute(node, **inputs):
    """Run a node as ComfyUI does: on a copy of its class that nothing can write to."""
    clone = node.PREPARE_CLASS_CLONE(None)
    return make_locked_method_func(node, node.FUNCTION, clone)(**inputs)


def apply(model, pulid, who=0, weight=1.0, start_at=0.0, end_at=1.0, mask=None, options=None):
    who = identity(who) if isinstance(who, int) else who
    return execute(
        PulidApplyFlux,
        model=model, pulid=pulid, reference=who, weight=weight, start_at=start_at, end_at=end_at,
        attn_mask=mask, options=options,
    ).result[0]  # fmt: skip


def largest_difference(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


class World:
    """Model files of a small FLUX and its PuLID."""

    def __init__(self, folder: Path):
        self.folder = folder

    def load_flux(self, dtype=torch.float32, model_options=None, **sizes):
        path = self.flux_file(dtype, **sizes)
        return comfy.sd.load_diffusion_model(str(path), model_options=model_options or {})

    def flux_file(self, dtype=torch.float32, **sizes) -> Path:
        name = "-".join(["flux", str(dtype).split(".")[1], *map(str, sizes.values())])
        path = self.folder / f"{name}.safetensors"
        if not path.exists():
            save_file(tiny_stage.random_weights(flux_shapes(**sizes), dtype, 0.5), path)
        return path

    def load_pulid(self, seed=0, **sizes) -> Pulid:
        path = self.folder / "-".join(["pulid", str(seed), *map(str, sizes.values())])
        path = path.with_suffix(".safetensors")
        if not path.exists():
            weights = tiny_stage.random_weights(pulid_shapes(**sizes), torch.bfloat16)
            weights = {name: tensor.roll(seed) for name, tensor in weights.items()}
            save_file(weights, path)
        return self.pulid(path)

    @staticmethod
    def pulid(path: Path) -> Pulid:
        """The PULID socket, without the face stages' files."""
        return Pulid(PulidPaths(path, path, path, path, "auto"))


class Acts:
    """Watches who acts in every forward pass of a patched model."""

    def __init__(self, patched):
        self.model = patched.clone()
        self.seen = []
        """One (sigma, {index of the condition: digests of the identities}) per forward pass."""
        self.model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "acts", self._watch)

    def _watch(self, executor, x, *args, **kwargs):
        options = next(o for o in (*args, *kwargs.values()) if isinstance(o, dict) and KEY in o)
        passes = options["cond_or_uncond"]
        batch = len(x) // len(passes)
        who = {index: set() for index in passes}
        for application, shares in options[KEY].shares.items():
            for share in shares:
                index = passes[share.rows.start // batch]
                folds = (application.person, application.negative)
                (acting,) = {
                    f.digest for f in folds if f and f.on(x.device).model is share.attentions
                }
                who[index].add(acting)
        self.seen.append((float(options["sigmas"][0]), who))
        return executor(x, *args, **kwargs)

    @property
    def active_sigmas(self):
        return [sigma for sigma, who in self.seen if any(who.values())]


def first_block_output(model, positive=None, **options):
    """The image tokens that leave double block 0 and everything that acts on it."""
    seen = []
    watched = model.clone()

    def watch(args, extra):
        seen.append(args["img"].clone())
        return extra["original_block"](args)

    watched.set_model_patch_replace(watch, "dit", "double_block", 1)
    sample(watched, positive, steps=1, **options)
    return seen[0]
