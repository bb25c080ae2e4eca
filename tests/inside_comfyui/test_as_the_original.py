"""True CFG as the original runs it: not in the first step, and nobody on the negative prompt."""

from itertools import pairwise

import comfy.sample
import comfy.samplers
import torch
from pulid_pack.tests.inside_comfyui.test_forward import plain_forward
from pulid_pack.tests.inside_comfyui.world import (
    apply,
    identity,
    largest_difference,
    prompt,
    sample,
)

STEPS, CFG, FIRST_GUIDED = 4, 3.5, 1  # PuLID app_flux.py timestep_to_start_cfg


def plain_denoise(flux, attentions, who, positive, negative, sigmas):
    """PuLID's flux/sampling.py denoise, written without ComfyUI's samplers."""
    start = torch.zeros(1, 16, 8, 8)
    x = comfy.sample.prepare_noise(start, 5)
    for step, (sigma, following) in enumerate(pairwise(sigmas)):

        def predict(text, tokens, x=x, sigma=sigma):
            (context, extra) = text[0]
            given = (sigma[None], context, extra["pooled_output"], torch.tensor([3.5]))
            return plain_forward(flux, attentions, tokens, 1.0, x, *given)

        out = predict(positive, who.tokens)
        if step >= FIRST_GUIDED:
            unguided = predict(negative, who.uncond_tokens)
            out = unguided + CFG * (out - unguided)
        x = x + (following - sigma) * out
    return x


def in_two_parts(model, positive, negative):
    """Two KSamplerAdvanced: one step at a cfg of 1 that keeps its noise, and the others."""
    first = sample(
        model, positive, negative, steps=STEPS,
        start_step=0, last_step=FIRST_GUIDED, force_full_denoise=False,
    )  # fmt: skip
    return comfy.sample.sample(
        model, torch.zeros_like(first), STEPS, CFG, "euler", "simple", positive, negative, first,
        denoise=1.0, disable_noise=True, start_step=FIRST_GUIDED, last_step=10000,
        force_full_denoise=True, seed=5, disable_pbar=True,
    )  # fmt: skip


def test_the_first_step_without_true_cfg(real_depth):
    """1e-5 of the range from the original's loop; guided throughout it is another picture."""
    model, pulid = real_depth
    who, positive, negative = identity(7), prompt(1), prompt(2)
    patched = apply(model, pulid, who)
    sigmas = comfy.samplers.calculate_sigmas(
        model.get_model_object("model_sampling"), "simple", STEPS
    )
    attentions = [
        {k: v.float() for k, v in pulid.file.load_attention(i).state_dict().items()}
        for i in range(20)
    ]
    flux = model.model.diffusion_model
    expected = plain_denoise(flux, attentions, who, positive, negative, sigmas)
    expected = model.model.process_latent_out(expected)
    ours = in_two_parts(patched, positive, negative)
    assert largest_difference(ours, expected) < 1e-5
    throughout = sample(patched, positive, negative, cfg=CFG, steps=STEPS)
    assert largest_difference(throughout, expected) > 1e-3
