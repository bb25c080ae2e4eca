"""Many people on one model, and guiders of every kind: what is folded, loaded and prepared, and when."""

import gc

import comfy.model_management
import comfy.samplers
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfy_extras.nodes_custom_sampler import Guider_Basic, Guider_DualCFG
from comfy_extras.nodes_perpneg import Guider_PerpNeg
from pulid_pack.nodes import folds, forward_plan
from pulid_pack.nodes.folds import CACHED_FOLDS
from pulid_pack.nodes.regions import PulidRegions
from pulid_pack.tests.inside_comfyui.world import apply, guide, identity, prompt, sample


def counting(monkeypatch, module, name):
    """The arguments of every call of a function, which runs as it is."""
    calls = []
    original = getattr(module, name)

    def call(*args, **kwargs):
        calls.append(args)
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, call)
    return calls


def chain(model, pulid, weights):
    for who, weight in enumerate(weights):
        model = apply(model, pulid, who, weight)
    return model


@pytest.mark.parametrize("people", [1, 2, 4, 6, 8])
@pytest.mark.parametrize("changed", [0, -1])
def test_another_weight_folds_nothing_again(model, pulid, people, changed, monkeypatch):
    """ComfyUI drops the outputs behind a changed node before it runs them anew."""
    calls = counting(monkeypatch, folds, "fold_identity")
    weights = [1.0] * people
    patched = chain(model, pulid, weights)
    sample(patched, cfg=2.0, steps=1)
    assert len(calls) == people + 1  # and nobody
    del patched
    gc.collect()
    weights[changed] = 0.5
    sample(chain(model, pulid, weights), cfg=2.0, steps=1)
    assert len(calls) == people + 1


def test_those_of_a_model_are_found_again(model, pulid, monkeypatch):
    """Also when the cache has gone on to others: one fold serves both."""
    calls = counting(monkeypatch, folds, "fold_identity")
    first = apply(model, pulid, 0)
    for who in range(1, CACHED_FOLDS + 2):
        apply(model, pulid, who)
    folded = len(calls)
    again = apply(model, pulid, 0, 0.5)
    assert len(calls) == folded
    assert set(first.model_patches_models()) == set(again.model_patches_models())


def cfg_guider(cfg):
    def make(model):
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(prompt(1), prompt(2))
        guider.set_cfg(cfg)
        return guider

    return make


def basic(model):
    guider = Guider_Basic(model)
    guider.set_conds(prompt(1))
    return guider


def dual(model):
    guider = Guider_DualCFG(model)
    guider.set_conds(prompt(1), prompt(2), prompt(3))
    guider.set_cfg(3.0, 2.0)
    return guider


def perp_neg(model):
    guider = Guider_PerpNeg(model)
    guider.set_conds(prompt(1), prompt(2), prompt(3))
    guider.set_cfg(3.0, 1.0)
    return guider


@pytest.mark.parametrize(
    ("make", "has_nobody"),
    [
        (cfg_guider(1.0), False),
        (basic, False),
        (cfg_guider(2.0), True),
        (dual, True),
        (perp_neg, True),
    ],
    ids=["cfg 1", "basic", "cfg 2", "dual", "perp-neg"],
)
def test_nobody_is_loaded_up_front(model, pulid, make, has_nobody, monkeypatch):
    """Together with FLUX, which makes room for it, under every guider with a negative pass; else not made."""
    guider = make(apply(model, pulid))
    loads = counting(monkeypatch, comfy.model_management, "load_models_gpu")
    plans = counting(monkeypatch, forward_plan, "_parts")
    seen_at = []
    original = comfy.model_management.load_models_gpu

    def load(models, *args, **kwargs):
        seen_at.append((len(plans), list(models)))
        return original(models, *args, **kwargs)

    monkeypatch.setattr(comfy.model_management, "load_models_gpu", load)
    guide(guider, sigmas=(1.0, 0.5, 0.0))
    nobody = pulid.folds.get(identity(0).uncond_tokens, torch.float32).models()
    assert len(nobody) == int(has_nobody)
    ((steps, together),) = [load for load in seen_at if guider.model_patcher in load[1]]
    assert steps == 0
    assert set(nobody) == set(together) - {guider.model_patcher}
    assert len(loads) == 1


def test_masks_are_prepared_once_per_sampling(model, pulid, monkeypatch):
    """On the CPU, whatever the device: steps, passes and people of one mask size share the work."""
    calls = counting(monkeypatch, forward_plan, "mask_to_tokens")
    masks = PulidRegions.execute(3, "left to right", 0.1).result
    patched = model
    for who in range(3):
        patched = apply(patched, pulid, who, mask=masks[who])
    sample(patched, cfg=3.0, steps=4)
    assert len(calls) == 3
    assert all(mask.device.type == "cpu" for mask, *_ in calls)
    sample(patched, cfg=3.0, steps=4, start=torch.zeros(1, 16, 8, 12))
    assert len(calls) == 6


def test_a_weight_of_one_reads_no_noise_level(model, pulid, monkeypatch):
    """Reading it waits for the device, so it is read only where start_at, end_at or a schedule asks."""
    calls = counting(monkeypatch, forward_plan.Conditions, "sigma")
    sample(apply(model, pulid), cfg=2.0, steps=3)
    assert not calls
    sample(apply(model, pulid, end_at=0.9), prompt(1), prompt(2, tokens=24), cfg=2.0, steps=3)
    assert len({id(conditions) for conditions, _ in calls}) == 3  # once per step, for both passes


def test_an_identity_is_loaded_as_a_whole_or_not_at_all(model, pulid):
    """ComfyUI may give it no room at all beside a FLUX that fills the card, or ask for some back."""
    (person,) = set(apply(model, pulid).model_patches_models())
    device = torch.device("cpu")
    for room in (0.1, 1, person.model_size() // 2, -1000):
        person.partially_load(device, room)
        assert person.loaded_size() == person.model_size()
    assert person.partially_unload(device, 1000) == 0
    assert person.loaded_size() == person.model_size()


def test_novram_is_respected(model, pulid, monkeypatch):
    """With --novram ComfyUI loads nothing, and casts each layer when it is used."""
    patched = apply(model, pulid)
    expected = sample(patched)
    comfy.model_management.unload_all_models()
    (person,) = set(patched.model_patches_models())
    seen = []
    monkeypatch.setattr(
        ModelPatcher, "partially_load", lambda *args, **_: seen.append(args[2]) or 0
    )
    state = comfy.model_management.VRAMState.NO_VRAM
    monkeypatch.setattr(comfy.model_management, "vram_state", state)
    person.partially_load(torch.device("cpu"), 1000)
    assert seen == [1000]
    monkeypatch.undo()
    assert torch.equal(sample(patched), expected)
