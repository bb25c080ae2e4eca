"""What is added to FLUX's own forward, and what is not."""

import math

import comfy.model_management
import pytest
import torch
import torch.nn.functional as F
from comfy.patcher_extension import WrappersMP
from pulid_pack.nodes.forward_plan import KEY
from pulid_pack.tests.inside_comfyui.world import (
    apply,
    first_block_output,
    identity,
    largest_difference,
    latent,
    prompt,
    sample,
)
from torch.utils._python_dispatch import TorchDispatchMode

HEADS, HEAD_DIM = 16, 128


def plain_attention(weights, identity_tokens, image_tokens):
    """pulid-flux-reference section 6, as the paper's code computes it."""
    x = F.layer_norm(identity_tokens, (2048,), weights["norm1.weight"], weights["norm1.bias"])
    latents = F.layer_norm(
        image_tokens, (image_tokens.shape[-1],), weights["norm2.weight"], weights["norm2.bias"]
    )
    q = latents @ weights["to_q.weight"].T
    k, v = (x @ weights["to_kv.weight"].T).chunk(2, dim=-1)
    q, k, v = (t.unflatten(-1, (HEADS, HEAD_DIM)).transpose(1, 2) for t in (q, k, v))
    attention = (q @ k.transpose(-1, -2) / math.sqrt(HEAD_DIM)).softmax(-1)
    return (attention @ v).transpose(1, 2).flatten(2) @ weights["to_out.weight"].T


def plain_forward(
    flux, attentions, tokens, weight, x, timestep, context, y, guidance, attend=plain_attention
):
    """FLUX block by block with PuLID after them, written without a single hook."""
    from comfy.ldm.flux.layers import timestep_embedding
    from einops import rearrange

    img, img_ids = flux.process_img(x)[:2]
    txt_ids = torch.zeros(len(x), context.shape[1], 3)
    img = flux.img_in(img)
    vec = flux.time_in(timestep_embedding(timestep, 256))
    vec = vec + flux.guidance_in(timestep_embedding(guidance, 256)) + flux.vector_in(y)
    txt = flux.txt_in(context)
    pe = flux.pe_embedder(torch.cat((txt_ids, img_ids), dim=1))
    ca = 0
    for i, block in enumerate(flux.double_blocks):
        img, txt = block(img=img, txt=txt, vec=vec, pe=pe)
        if i % 2 == 0:
            img = img + weight * attend(attentions[ca], tokens, img)
            ca += 1
    both = torch.cat((txt, img), 1)
    for i, block in enumerate(flux.single_blocks):
        both = block(both, vec=vec, pe=pe)
        if i % 4 == 0:
            txt, img = both[:, : txt.shape[1]], both[:, txt.shape[1] :]
            img = img + weight * attend(attentions[ca], tokens, img)
            both = torch.cat((txt, img), 1)
            ca += 1
    assert ca == len(attentions) == 20
    out = flux.final_layer(both[:, txt.shape[1] :], vec)
    h, w = -(-x.shape[-2] // 2), -(-x.shape[-1] // 2)
    out = rearrange(out, "b (h w) (c p q) -> b c (h p) (w q)", h=h, w=w, p=2, q=2)
    return out[..., : x.shape[-2], : x.shape[-1]]


@pytest.mark.parametrize("size", [(8, 8), (7, 11)])
@pytest.mark.parametrize("weight", [1.0, -0.7])
def test_equals_a_plain_loop(real_depth, size, weight):
    """The whole injected forward at FLUX's depth, 1e-5 of the value range."""
    flux, pulid = real_depth
    who = identity(7)
    patched = apply(flux, pulid, who, weight)
    seen = []

    def record(executor, x, t, context, y, guidance, *rest, **options):
        out = executor(x, t, context, y, guidance, *rest, **options)
        seen.append(((x, t, context, y, guidance), out))
        return out

    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "record", record)
    sample(patched, steps=1, start=torch.zeros(2, 16, *size))
    attentions = [
        {k: v.float() for k, v in pulid.file.load_attention(i).state_dict().items()}
        for i in range(20)
    ]
    (args, ours) = seen[0]
    reference = plain_forward(flux.model.diffusion_model, attentions, who.tokens, weight, *args)
    assert largest_difference(ours, reference) < 1e-5
    unpatched = plain_forward(flux.model.diffusion_model, attentions, who.tokens, 0.0, *args)
    assert largest_difference(unpatched, reference) > 1e-2


def test_weight_zero_equals_no_node(model, pulid):
    patched = apply(model, pulid, weight=0)
    assert patched is not model
    assert not patched.model_options["transformer_options"].get("patches_replace")
    assert torch.equal(sample(patched), sample(model))


def test_a_range_at_the_very_end_equals_no_node(model, pulid):
    assert torch.equal(sample(apply(model, pulid, start_at=1, end_at=1)), sample(model))


def test_mask_of_zeros_equals_no_node(model, pulid):
    assert torch.equal(sample(apply(model, pulid, mask=torch.zeros(1, 16, 16))), sample(model))


@pytest.mark.parametrize("shape", [(16, 16), (1, 5, 9), (3, 1024, 1024)])
def test_mask_of_ones_equals_no_mask(model, pulid, shape):
    masked = apply(model, pulid, mask=torch.ones(shape))
    assert torch.equal(sample(masked), sample(apply(model, pulid)))


def test_an_unmasked_part_equals_no_mask_where_nothing_mixes(model, pulid):
    """A mask value of 1 next to others gives the full delta: one block, seen in its output."""
    seen = {}
    mask = torch.zeros(1, 8, 8)
    mask[..., :4] = 1
    for name, patched in (
        ("bare", model),
        ("full", apply(model, pulid)),
        ("half", apply(model, pulid, mask=mask)),
        ("soft", apply(model, pulid, mask=torch.full((1, 3, 3), 0.25))),
    ):
        seen[name] = first_block_output(patched)
    delta = seen["full"] - seen["bare"]
    grid = (seen["half"] - seen["bare"]).unflatten(1, (4, 4))
    assert torch.allclose(grid[:, :, :2], delta.unflatten(1, (4, 4))[:, :, :2], atol=1e-5)
    assert grid[:, :, 2:].abs().max() == 0
    assert torch.allclose(seen["soft"] - seen["bare"], delta * 0.25, atol=1e-5)


def test_base_model_stays_bit_identical(world, model, pulid):
    before = {k: v.clone() for k, v in model.model.state_dict().items()}
    options = repr(model.model_options)
    plain = sample(model)
    patched = apply(model, pulid, 3)
    sample(patched)
    sample(patched, cfg=3.0)
    assert KEY not in patched.model_options["transformer_options"]
    del patched
    assert repr(model.model_options) == options
    after = model.model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert torch.equal(sample(model), plain)


def test_two_branches_do_not_see_each_other(model, pulid):
    one, two = apply(model, pulid, 1), apply(model, pulid, 2)
    first = sample(one)
    second = sample(two)
    assert not torch.equal(first, second)
    assert torch.equal(sample(one), first)
    assert torch.equal(sample(two), second)


def test_two_pulid_files_in_one_graph_both_act(world, model, pulid):
    other = world.load_pulid(seed=1)
    both = apply(apply(model, pulid, 1), other, 1)
    assert not torch.equal(sample(both), sample(apply(model, pulid, 1)))
    assert not torch.equal(sample(both), sample(apply(model, other, 1)))
    assert torch.equal(sample(both), sample(apply(apply(model, other, 1), pulid, 1)))


@pytest.mark.parametrize("photos", [1, 2, 12])
def test_many_photos_use_the_smaller_form(model, pulid, photos):
    """An identity of twelve photos takes the key/value form, and repeats change nothing."""
    one = identity(4)
    repeated = identity(4)
    object.__setattr__(repeated, "tokens", one.tokens.repeat(1, photos, 1))
    difference = largest_difference(
        sample(apply(model, pulid, repeated)), sample(apply(model, pulid, one))
    )
    assert difference < 1e-4


@pytest.mark.parametrize("size", [(32, 32), (33, 35), (31, 192), (96, 47), (7, 9)])
def test_sizes_from_256_to_1536_px(model, pulid, size):
    """Latents of 256 to 1536 px, odd ones among them, with a mask of another shape."""
    start = torch.zeros(1, 16, *size)
    mask = torch.linspace(0, 1, 20).view(1, 4, 5)
    out = sample(apply(model, pulid, mask=mask), steps=1, start=start)
    assert out.shape == start.shape
    assert out.isfinite().all()
    assert not torch.equal(out, sample(model, steps=1, start=start))


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_batches(model, pulid, batch):
    """Each item of a batch equals the same item sampled alone."""
    start = latent(batch=batch)
    together = sample(apply(model, pulid), steps=2, start=start, denoise=0.7)
    noise = torch.cat([start[:1]] * batch)
    assert together.shape == noise.shape
    alone = [sample_item(apply(model, pulid), start, i) for i in range(batch)]
    assert largest_difference(together, torch.cat(alone)) < 1e-4


def sample_item(model, start, index):
    import comfy.sample

    noise = comfy.sample.prepare_noise(start, 5)[index : index + 1]
    return comfy.sample.sample(
        model, noise, 2, 1.0, "euler", "simple", prompt(), prompt(2), start[index : index + 1],
        denoise=0.7, seed=5, disable_pbar=True,
    )  # fmt: skip


class HostReads(TorchDispatchMode):
    """Counts how often a tensor's value is read by Python."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in (
            torch.ops.aten._local_scalar_dense.default,
            torch.ops.aten.is_nonzero.default,
            torch.ops.aten.nonzero.default,
            torch.ops.aten.equal.default,
        ):
            self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("people", [1, 3])
def test_one_host_read_per_forward_and_none_in_a_block(model, pulid, people):
    """With masks, a schedule and both passes; the model itself reads nothing."""
    from pulid_pack.pulid_core.injection.options import InjectionOptions
    from pulid_pack.pulid_core.injection.schedule import SCHEDULES

    def count(patched):
        reads = {"forward": 0, "blocks": 0, "calls": 0}

        def around_forward(executor, *args, **kwargs):
            with HostReads() as mode:
                out = executor(*args, **kwargs)
            reads["forward"] += mode.count
            reads["calls"] += 1
            return out

        def around_blocks(executor, *args, **kwargs):
            with HostReads() as mode:
                out = executor(*args, **kwargs)
            reads["blocks"] += mode.count
            return out

        watched = patched.clone()
        watched.wrappers = {k: dict(v) for k, v in patched.wrappers.items()}
        ours = watched.wrappers.get(WrappersMP.APPLY_MODEL, {})
        watched.wrappers[WrappersMP.APPLY_MODEL] = {"watch": [around_forward], **ours}
        watched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "watch", around_blocks)
        sample(watched, cfg=2.0, steps=3)
        return reads

    patched = model
    options = InjectionOptions(schedule=SCHEDULES["ease-in"])
    for who in range(people):
        mask = torch.rand(1, 20, 20, generator=torch.Generator().manual_seed(who))
        patched = apply(patched, pulid, who, mask=mask, options=options)
    bare, ours = count(model), count(patched)
    assert ours["calls"] == bare["calls"] > 0
    assert bare["forward"] == 0
    assert ours["forward"] <= ours["calls"]
    assert ours["blocks"] == 0


def test_weights_leave_and_come_back(model, pulid):
    """After everything was unloaded the same patched model gives the same picture."""
    patched = apply(model, pulid)
    before = sample(patched)
    comfy.model_management.unload_all_models()
    assert torch.equal(sample(patched), before)


def test_comfyui_accounts_for_the_folded_identity(model, pulid):
    """It loads, counts and offloads the identity together with FLUX, and nothing else of PuLID."""
    patched = apply(model, pulid)
    (folded,) = set(patched.model_patches_models())
    sample(patched)
    loaded = [entry.model for entry in comfy.model_management.current_loaded_models]
    assert folded in loaded
    assert folded.model_size() == sum(p.nbytes for p in folded.model.parameters())
    assert folded in pulid.get_models()
