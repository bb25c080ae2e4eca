"""Whatever is chained, cloned and deleted: every branch equals the same branch built alone."""

import gc

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pulid_pack.nodes.folds import CACHED_FOLDS
from pulid_pack.tests.inside_comfyui.world import apply, identity, sample

PEOPLE = st.integers(0, 2)
STEPS = st.one_of(
    st.tuples(st.just("apply"), PEOPLE, st.sampled_from([0.0, 0.6, 1.0]), st.sampled_from([None, 1, 2])),
    st.tuples(st.just("clone")),
    st.tuples(st.just("bypass")),
)  # fmt: skip
BRANCH = st.tuples(st.integers(0, 3), st.lists(STEPS, max_size=3))
"""Which earlier branch it grows from (modulo their number), and what is done to it."""


def mask(kind):
    return None if kind is None else torch.linspace(0, 1, 16).view(1, 4, 4).roll(kind)


def take(model, pulid, step):
    if step[0] == "apply":
        _, who, weight, kind = step
        return apply(model, pulid, who, weight, mask=mask(kind))
    return model.clone() if step[0] == "clone" else model


def build(model, pulid, steps):
    for step in steps:
        model = take(model, pulid, step)
    return model


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    branches=st.lists(BRANCH, min_size=1, max_size=3),
    sampled_between=st.booleans(),
    deleted=st.integers(0, 3),
)
def test_branches_equal_themselves_built_alone(model, pulid, branches, sampled_between, deleted):
    """Bit for bit, after sampling and deleting others in between."""
    recipes, built = [[]], [model]
    for parent, steps in branches:
        parent %= len(built)
        recipes.append(recipes[parent] + steps)
        built.append(build(built[parent], pulid, steps))
        if sampled_between:
            sample(built[-1], steps=1, cfg=2.0)
    if 0 < deleted < len(built):
        del built[deleted], recipes[deleted]
        gc.collect()
    together = [sample(branch, steps=2) for branch in built]
    for recipe, picture in zip(recipes, together, strict=True):
        alone = sample(build(model, pulid, recipe), steps=2)
        assert torch.equal(picture, alone)
        if not any(step[0] == "apply" and step[2] != 0 for step in recipe):
            assert torch.equal(picture, sample(model, steps=2))


def tensor_bytes():
    """All tensors that are alive, each storage once."""
    gc.collect()
    storages = {}
    for thing in gc.get_objects():
        if type(thing) in (torch.Tensor, torch.nn.Parameter) and not thing.is_meta:
            storage = thing.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def test_memory_after_fifty_prompts_equals_memory_after_five(model, pulid):
    """Each prompt with another person, weight and cfg, as someone trying out photos."""
    sizes = []
    for number in range(50):
        patched = apply(model, pulid, 100 + number, 0.5 + number / 100)
        sample(patched, steps=1, cfg=1.0 + number % 2)
        del patched
        if number + 1 in (5, 50):
            sizes.append(tensor_bytes())
    assert sizes[1] == sizes[0]


def test_the_cache_of_folds_is_bounded_and_shared(model, pulid):
    """The same person is folded once for all branches; old ones go, those in use stay usable."""
    first = apply(model, pulid, 0)
    again = apply(model, pulid, 0, 0.5)
    assert set(first.model_patches_models()) == set(again.model_patches_models())
    before = sample(first)
    for who in range(1, CACHED_FOLDS + 2):
        apply(model, pulid, who)
    assert len(pulid.folds.models()) <= CACHED_FOLDS
    assert torch.equal(sample(first), before)


def test_identities_with_equal_shapes_do_not_mix(model, pulid):
    who = identity(1)
    other = identity(1)
    other.tokens[0, 0, 0] += 1
    assert not torch.equal(sample(apply(model, pulid, who)), sample(apply(model, pulid, other)))
