"""PuLID in the models of FLUX's family: Kontext, Fill, Redux and Chroma."""

import comfy.ldm.chroma_radiance.model
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.supported_models
import pytest
import torch
from pulid_pack.tests.inside_comfyui.world import (
    WIDTH,
    apply,
    first_block_output,
    latent,
    prompt,
    sample,
)


def reference_methods():
    from comfy_extras import nodes_flux

    node = nodes_flux.FluxKontextMultiReferenceLatentMethod
    (_, combo) = node.define_schema().inputs
    return ["uxo" if "uxo" in option else option for option in combo.options]


@pytest.mark.parametrize("method", [*reference_methods(), None])
@pytest.mark.parametrize("mask", [None, torch.linspace(0, 1, 64).view(1, 8, 8)])
def test_reference_latents(model, pulid, method, mask):
    """Kontext: only the generated tokens change; those of two references of other sizes do not."""
    references = {"reference_latents": [latent(6, 4), latent(4, 10)]}
    if method:
        references["reference_latents_method"] = method
    kontext = prompt(**references)
    try:
        bare = first_block_output(model, kontext)
    except RuntimeError:
        pytest.skip("this ComfyUI cannot run FLUX.1 with this method, without PuLID either")
    patched = first_block_output(apply(model, pulid, mask=mask), kontext)
    assert bare.shape[1] == 16 + 6 + 10
    assert torch.equal(patched[:, 16:], bare[:, 16:])
    delta = patched[:, :16] - bare[:, :16]
    assert delta.abs().amax(-1).min() > (0 if mask is None else -1)
    assert delta.abs().max() > 1e-2
    out = sample(apply(model, pulid, mask=mask), kontext)
    assert out.isfinite().all()


def test_single_blocks_leave_text_and_references_alone(model, pulid):
    """Where text, picture and references are one sequence, only the middle changes."""
    seen = []

    def run(patched):
        watched = patched.clone()

        def watch(args, extra):
            seen.append((args["img"].clone(), args["transformer_options"]["img_slice"]))
            return extra["original_block"](args)

        watched.set_model_patch_replace(watch, "dit", "single_block", 1)
        sample(watched, prompt(reference_latents=[latent(6, 4)]), steps=1)
        return seen.pop()

    # Off in the double blocks, so that nothing but single block 0 differs.
    from pulid_pack.pulid_core.injection.options import InjectionOptions

    only_single = InjectionOptions(double_weights=(0.0,))
    (bare, (text, _)), (patched, _) = run(model), run(apply(model, pulid, options=only_single))
    assert text == 16
    changed = (bare != patched).any(-1)[0]
    assert changed.nonzero().flatten().tolist() == list(range(text, text + 16))


def test_fill(world, pulid):
    """FLUX Fill: 96 input channels of picture, masked picture and mask."""
    fill = world.load_flux(in_channels=96)
    assert fill.model.diffusion_model.in_channels == 96 * 4
    inpaint = prompt(concat_latent_image=latent(), concat_mask=torch.ones(1, 1, 64, 64))
    assert not torch.equal(sample(apply(fill, pulid), inpaint), sample(fill, inpaint))
    zero = apply(fill, pulid, mask=torch.zeros(1, 4, 4))
    assert torch.equal(sample(zero, inpaint), sample(fill, inpaint))


@pytest.mark.parametrize("strength_type", ["multiply", "attn_bias"])
def test_redux(model, pulid, strength_type):
    """Style tokens and their attention mask live in the conditioning; text grows by them."""
    import nodes

    class StyleModel:
        def get_cond(self, _):
            return torch.randn(1, 9, 64, generator=torch.Generator().manual_seed(8))

    apply_style = nodes.StyleModelApply().apply_stylemodel
    (styled,) = apply_style(prompt(), StyleModel(), None, 0.4, strength_type)
    assert styled[0][0].shape[1] == 16 + 9
    picture = sample(apply(model, pulid), styled)
    assert not torch.equal(picture, sample(model, styled))
    assert not torch.equal(picture, sample(apply(model, pulid)))
    zero = apply(model, pulid, mask=torch.zeros(1, 4, 4))
    assert torch.equal(sample(zero, styled), sample(model, styled))


def untrained(config, kind):
    """A model of ComfyUI's class with random weights."""
    config.set_inference_dtype(torch.float32, None)
    base = kind(config, device="cpu")
    generator = torch.Generator().manual_seed(0)
    for name, parameter in base.diffusion_model.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.05, generator=generator)
        else:
            torch.nn.init.constant_(parameter, float("norm" in name))
    device = comfy.model_management.get_torch_device()
    return comfy.model_patcher.CoreModelPatcher(
        base.requires_grad_(False), device, comfy.model_management.unet_offload_device()
    )


def chroma():
    """Chroma's own class, narrow; its modulation table fixes 19 double and 38 single blocks."""
    config = comfy.supported_models.Chroma(
        {
            "image_model": "chroma", "in_channels": 64, "out_channels": 64, "context_in_dim": 64,
            "hidden_size": WIDTH, "mlp_ratio": 4.0, "num_heads": 1, "depth": 19,
            "depth_single_blocks": 38, "axes_dim": [16, 56, 56], "theta": 10000, "patch_size": 2,
            "qkv_bias": True, "in_dim": 64, "out_dim": WIDTH, "hidden_dim": 32, "n_layers": 2,
            "txt_ids_dims": [], "vec_in_dim": None,
        }
    )  # fmt: skip
    return untrained(config, comfy.model_base.Chroma)


@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_chroma(real_depth, size):
    """The same blocks and hooks, another `vec`, no pooled text: PuLID acts, also in true CFG."""
    _, pulid = real_depth
    model = chroma()
    start = torch.zeros(1, 16, *size)
    patched = apply(model, pulid)
    picture = sample(patched, cfg=2.0, start=start, steps=2)
    assert picture.isfinite().all()
    assert not torch.equal(picture, sample(model, cfg=2.0, start=start, steps=2))
    zero = apply(model, pulid, mask=torch.zeros(1, 4, 4))
    assert torch.equal(sample(zero, start=start, steps=2), sample(model, start=start, steps=2))


def radiance():
    known = comfy.ldm.chroma_radiance.model.ChromaRadianceParams.__dataclass_fields__
    sizes = (
        {
            "image_model": "chroma_radiance", "axes_dim": [16, 56, 56], "context_in_dim": 64, "depth": 19,
            "depth_single_blocks": 38, "hidden_size": WIDTH, "in_channels": 3, "mlp_ratio": 4.0,
            "num_heads": 1, "out_channels": 3, "patch_size": 16, "theta": 10000, "qkv_bias": True,
            "in_dim": 64, "out_dim": WIDTH, "hidden_dim": 32, "n_layers": 2, "txt_ids_dims": [],
            "vec_in_dim": None, "nerf_hidden_size": 8, "nerf_mlp_ratio": 2, "nerf_depth": 1,
            "nerf_max_freqs": 2, "nerf_tile_size": 0, "nerf_final_head_type": "conv",
            "nerf_embedder_dtype": torch.float32, "use_x0": False, "use_sequential_txt_ids": False,
        }
    )  # fmt: skip
    sizes = {k: v for k, v in sizes.items() if k in known or k == "image_model"}
    config = comfy.supported_models.ChromaRadiance(sizes)
    return untrained(config, comfy.model_base.ChromaRadiance)


def test_chroma_radiance(real_depth):
    """Pixels instead of latents, 16 to a token: PuLID acts, where its mask says."""
    _, pulid = real_depth
    model, start = radiance(), torch.zeros(1, 3, 64, 96)
    picture = sample(apply(model, pulid), cfg=2.0, steps=2, start=start)
    assert picture.isfinite().all()
    assert not torch.equal(picture, sample(model, cfg=2.0, steps=2, start=start))
    zero = apply(model, pulid, mask=torch.zeros(1, 4, 4))
    assert torch.equal(sample(zero, steps=2, start=start), sample(model, steps=2, start=start))
