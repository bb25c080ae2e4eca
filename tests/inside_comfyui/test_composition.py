"""PuLID next to everything else that changes FLUX: one test for each row of the README's table."""

import comfy.controlnet
import comfy.ldm.flux.controlnet
import comfy.model_management
import comfy.ops
import comfy.sd
import pytest
import torch
import torch.nn.functional as F
from comfy.cli_args import args as cli_args
from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode
from comfy_extras.nodes_model_advanced import ModelSamplingFlux
from comfy_extras.nodes_model_merging import ModelMergeSimple
from comfy_extras.nodes_torch_compile import TorchCompileModel
from pulid_pack.nodes.block_patch import BlockPatch
from pulid_pack.tests.inside_comfyui.world import (
    LOST,
    apply,
    first_block_output,
    largest_difference,
    latent,
    prompt,
    sample,
)


def commutes(model, pulid, node, **sampling):
    """Whether a node that returns a patched clone may stand before and after ours; returns both."""
    before = sample(apply(node(model), pulid), **sampling)
    after = sample(node(apply(model, pulid)), **sampling)
    assert torch.equal(before, after)
    without_pulid = sample(node(model), **sampling)
    assert not torch.equal(before, without_pulid)
    assert not torch.equal(before, sample(apply(model, pulid), **sampling))
    return before, without_pulid


# ControlNet, LoRA, merging, ModelSamplingFlux


def controlnet(model):
    flux = model.model.model_config
    net = comfy.ldm.flux.controlnet.ControlNetFlux(
        operations=comfy.ops.manual_cast, **flux.unet_config
    )
    generator = torch.Generator().manual_seed(4)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.05, generator=generator)
    return comfy.controlnet.ControlNet(
        net.requires_grad_(False),
        load_device=comfy.model_management.get_torch_device(),
        extra_conds=["y", "guidance"],
    )


def test_controlnet_flux(model, pulid):
    """The block's residual and the identity add up; both act in every block after it."""
    hint = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    control = controlnet(model).set_cond_hint(hint, 0.8, (0.0, 1.0))
    guided = prompt(control=control, control_apply_to_uncond=True)
    bare = first_block_output(model)
    residual = first_block_output(model, guided) - bare
    delta = first_block_output(apply(model, pulid)) - bare
    assert residual.abs().max() > 1e-3
    both = first_block_output(apply(model, pulid), guided) - bare
    assert torch.allclose(both, residual + delta, atol=1e-5)
    assert not torch.equal(sample(apply(model, pulid), guided), sample(apply(model, pulid)))


def lora(model):
    weights = {}
    generator = torch.Generator().manual_seed(6)
    for name in ("double_blocks.0.img_attn.qkv", "single_blocks.4.linear1"):
        layer = model.model.diffusion_model.get_submodule(name)
        rows, columns = layer.out_features, layer.in_features
        weights[f"diffusion_model.{name}.lora_A.weight"] = torch.randn(
            4, columns, generator=generator
        )
        weights[f"diffusion_model.{name}.lora_B.weight"] = torch.randn(rows, 4, generator=generator)
    return comfy.sd.load_lora_for_models(model, None, weights, 0.05, 0)[0]


def test_lora_before_and_after(model, pulid):
    commutes(model, pulid, lora)


def test_model_merging(world, model, pulid):
    other = world.load_flux()
    for parameter in other.model.diffusion_model.parameters():
        parameter.data = parameter.data.roll(1)
    commutes(model, pulid, lambda m: ModelMergeSimple().merge(m, other, 0.6)[0])


def test_model_sampling_flux(model, pulid):
    commutes(model, pulid, lambda m: ModelSamplingFlux().patch(m, 2.0, 0.5, 1536, 1024)[0], steps=4)


# Weights: fp8, packed, compute dtypes


def test_fp8_weights(world, pulid):
    """fp8 FLUX with PuLID equals float32 FLUX of the same rounded weights with PuLID."""
    fp8 = world.load_flux(model_options={"dtype": torch.float8_e4m3fn})
    rounded = world.load_flux()
    for parameter in rounded.model.diffusion_model.parameters():
        parameter.data = parameter.data.to(torch.float8_e4m3fn).float()
    assert {p.dtype for p in fp8.model.diffusion_model.parameters()} == {torch.float8_e4m3fn}
    ours = sample(apply(fp8, pulid))
    assert largest_difference(ours, sample(apply(rounded, pulid))) < 1e-3
    assert largest_difference(ours, sample(fp8)) > 1e-2


class PackedOps(comfy.ops.manual_cast):
    """Layers like those of GGUF loaders: weights are bytes of another shape until they are used."""

    class Linear(comfy.ops.manual_cast.Linear):
        def _load_from_state_dict(self, state_dict, prefix, *args):
            weight = state_dict[prefix + "weight"]
            self.real_shape = weight.shape
            packed = weight.to(torch.float16).view(torch.uint8).flatten()
            self.weight = torch.nn.Parameter(packed, requires_grad=False)
            if prefix + "bias" in state_dict:
                self.bias = torch.nn.Parameter(state_dict[prefix + "bias"], requires_grad=False)

        def forward(self, x):
            weight = self.weight.view(torch.float16).view(self.real_shape).to(x)
            return F.linear(x, weight, None if self.bias is None else self.bias.to(x))


def test_gguf_style_weights(world, pulid):
    """Nothing reads the shape or dtype of FLUX's weights."""
    packed = world.load_flux(model_options={"custom_operations": PackedOps})
    assert packed.model.diffusion_model.img_in.weight.ndim == 1
    halved = world.load_flux()
    for parameter in halved.model.diffusion_model.parameters():
        if parameter.ndim == 2:
            parameter.data = parameter.data.half().float()
    difference = largest_difference(sample(apply(packed, pulid)), sample(apply(halved, pulid)))
    assert difference < 1e-4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_folds_follow_the_compute_dtype(world, pulid, dtype):
    """An identity is held in what FLUX computes in, also when a cast decides it."""
    model = world.load_flux(model_options={"dtype": dtype})
    patched = apply(model, pulid)
    (folded,) = set(patched.model_patches_models())
    expected = model.model.manual_cast_dtype or dtype
    assert {p.dtype for p in folded.model.parameters()} == {expected}
    assert sample(patched).isfinite().all()
    compute = world.load_flux()
    compute.add_object_patch("manual_cast_dtype", dtype)  # as ModelComputeDtype does
    (folded,) = set(apply(compute, pulid).model_patches_models())
    assert {p.dtype for p in folded.model.parameters()} == {dtype}


# Caches and compilation


def count_blocks(model):
    calls = []
    watched = model.clone()

    def watch(args, extra):
        calls.append(1)
        return extra["original_block"](args)

    watched.set_model_patch_replace(watch, "dit", "double_block", 1)
    return watched, calls


@pytest.mark.parametrize("cache", [EasyCacheNode, LazyCacheNode])
def test_caches(model, pulid, cache, caplog):
    """Unused they change nothing; used they skip steps, and PuLID acts in the others."""

    def node(threshold):
        return lambda m: cache.execute(m, threshold, 0.0, 1.0, verbose=False).result[0]

    exact = sample(apply(model, pulid), steps=8)
    for patched in (apply(node(0.0)(model), pulid), node(0.0)(apply(model, pulid))):
        assert torch.equal(sample(patched, steps=8), exact)
    watched, calls = count_blocks(apply(model, pulid))
    cached = sample(node(1.0)(watched), steps=8)
    assert 0 < len(calls) < 8
    assert not torch.equal(cached, exact)
    assert not torch.equal(cached, sample(node(1.0)(model), steps=8))
    assert LOST not in caplog.text


def test_torch_compile(model, pulid):
    """Equal to eager, in either order; a second run, another range and length compile little new."""
    counters = torch._dynamo.utils.counters
    torch._dynamo.reset()
    counters.clear()
    patched = apply(model, pulid, end_at=0.6, mask=torch.rand(1, 8, 8))
    compiled = TorchCompileModel.execute(patched, "eager").result[0]
    assert torch.equal(sample(compiled, steps=4), sample(patched, steps=4))
    graphs = counters["stats"]["unique_graphs"]
    assert graphs > 0
    assert torch.equal(sample(compiled, steps=4), sample(patched, steps=4))
    sample(compiled, prompt(3), steps=4)
    assert counters["stats"]["unique_graphs"] == graphs
    assert not [k for k in counters["unimplemented"] if "recompile" in k.lower()]
    longer = sample(compiled, prompt(tokens=24), steps=4)
    assert torch.equal(longer, sample(patched, prompt(tokens=24), steps=4))
    other = apply(TorchCompileModel.execute(model, "eager").result[0], pulid)
    assert torch.equal(sample(other, steps=3), sample(apply(model, pulid), steps=3))
    torch._dynamo.reset()


# Prompts, latents, memory


def test_regional_conditioning(model, pulid):
    """ConditioningSetMask: two prompts with masks, each pass with the identity."""
    mask = torch.zeros(1, 64, 64)
    mask[..., :32] = 1
    regional = prompt(1, mask=mask, mask_strength=1.0, set_area_to_bounds=False)
    regional += prompt(9, mask=1 - mask, mask_strength=1.0, set_area_to_bounds=False)
    picture = sample(apply(model, pulid), regional)
    assert not torch.equal(picture, sample(model, regional))
    zero = apply(model, pulid, mask=torch.zeros(1, 4, 4))
    assert torch.equal(sample(zero, regional), sample(model, regional))


def test_image_to_image_and_inpainting(model, pulid):
    start = latent()
    for options in ({"denoise": 0.5}, {"noise_mask": torch.ones(1, 1, 64, 64).tril()}):
        picture = sample(apply(model, pulid), start=start, **options)
        assert not torch.equal(picture, sample(model, start=start, **options))
    kept = torch.ones(8, 8).tril().bool().logical_not()
    kept = kept & (F.interpolate(torch.ones(1, 1, 64, 64).tril(), (8, 8), mode="area")[0, 0] == 0)
    assert torch.allclose(picture[..., kept], start[..., kept], atol=1e-4)


@pytest.mark.parametrize("state", ["LOW_VRAM", "NO_VRAM"])
def test_lowvram_flags(model, pulid, state, monkeypatch):
    """What a CPU can show of --lowvram and --novram: partly loaded layers give the same picture."""
    expected = sample(apply(model, pulid))
    comfy.model_management.unload_all_models()
    monkeypatch.setattr(
        comfy.model_management, "vram_state", getattr(comfy.model_management.VRAMState, state)
    )
    patched = apply(model, pulid)
    (folded,) = set(patched.model_patches_models())
    for budget in (1, folded.model_size() // 2):
        folded.partially_load(torch.device("cpu"), budget)
        assert torch.equal(sample(patched), expected)
        folded.detach()
    assert cli_args.cpu


def test_multi_gpu_deep_clone(world, model, pulid):
    """ComfyUI's clone for a second device holds identities of its own."""
    if not hasattr(model, "deepclone_multigpu"):
        pytest.skip("this ComfyUI has no deep clones for several GPUs yet (0.23)")
    second = torch.device("cpu", 1)
    patched = apply(model, pulid)
    clone = patched.deepclone_multigpu(new_load_device=second)
    mine, theirs = (set(m.model_patches_models()) for m in (patched, clone))
    assert not mine & theirs
    assert {m.load_device for m in theirs} == {second}
    storages = [
        {p.untyped_storage().data_ptr() for m in models for p in m.model.parameters()}
        for models in (mine, theirs)
    ]
    assert not storages[0] & storages[1]
    dit = clone.model_options["transformer_options"]["patches_replace"]["dit"]
    assert all(patch.device == second for patch in dit.values() if isinstance(patch, BlockPatch))
    original = patched.model_options["transformer_options"]["patches_replace"]["dit"]
    assert all(patch.device == patched.load_device for patch in original.values())


def test_an_unloaded_model_keeps_its_identities(model, pulid):
    """ComfyUI moves patches to the offload device with the model, and asks for their models there."""
    patched = apply(model, pulid)
    patched.offload_device = torch.device("cpu", 1)
    (person,) = set(patched.model_patches_models())
    first = sample(patched)
    sample(model)  # takes the weights from its clone
    assert set(patched.model_patches_models()) == {person}
    assert torch.equal(sample(patched), first)
    assert pulid.folds.models() == [person]  # nothing was folded for the CPU
    assert person.loaded_size() == person.model_size()
    assert person in comfy.model_management.loaded_models(only_currently_used=True)
