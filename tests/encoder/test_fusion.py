"""Several photos of one person: weights count photos, in every fusion."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pulid_pack.pulid_core.encoder.fusion import (
    FUSIONS,
    Look,
    blend_tokens,
    check_weights,
    concat_tokens,
    mean_tokens,
    native_tokens,
    whole_copies,
)
from pulid_pack.pulid_core.errors import PulidError
from pulid_pack.tests.people import tiny_encoder

WEIGHTS = st.lists(st.floats(0.01, 100), min_size=1, max_size=6).map(tuple)


def look(seed: int, encoder) -> Look:
    generator = torch.Generator().manual_seed(seed)
    states = tuple(torch.randn(1, 16, 16, generator=generator) for _ in range(5))
    condition = torch.randn(1, 1280, generator=generator)
    return Look(str(seed), torch.zeros(1, 3, 336, 672), condition, states)


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return tiny_encoder()


@pytest.fixture(scope="module")
def looks(encoder):
    return [look(seed, encoder) for seed in range(3)]


@pytest.fixture(scope="module")
def encode(encoder):
    return lambda one: encoder(one.condition, list(one.hidden_states))


def attend(tokens: torch.Tensor) -> torch.Tensor:
    """What an image that looks at the tokens gets, (1, 50, 32)."""
    image = torch.randn(1, 50, 32, generator=torch.Generator().manual_seed(5))
    return torch.nn.functional.scaled_dot_product_attention(image, tokens, tokens)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_one_photo_is_the_same_in_every_fusion(fusion, looks, encode, encoder):
    tokens = FUSIONS[fusion](looks[:1], (1.0,), encode, encoder)
    assert torch.equal(tokens, encode(looks[0]))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_weight_two_is_the_photo_given_twice(fusion, looks, encode, encoder):
    """To the picture; concat repeats tokens in another order, which attention does not see."""
    first, second, _ = looks
    weighted = FUSIONS[fusion]([first, second], (2.0, 1.0), encode, encoder)
    twice = FUSIONS[fusion]([first, first, second], (1.0, 1.0, 1.0), encode, encoder)
    torch.testing.assert_close(attend(weighted), attend(twice), rtol=1e-4, atol=1e-5)
    once = FUSIONS[fusion]([first, second], (1.0, 1.0), encode, encoder)
    assert not torch.allclose(attend(weighted), attend(once), atol=1e-3)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_only_the_proportion_of_weights_counts(fusion, looks, encode, encoder):
    """Native is the exception that proves what weights are: there, queries count once each."""
    tokens = [FUSIONS[fusion](looks, w, encode, encoder) for w in ((1, 2, 1), (0.5, 1, 0.5))]
    same = torch.allclose(attend(tokens[0]), attend(tokens[1]), atol=1e-5)
    assert same == (fusion != "native")


def test_the_same_photo_twice_changes_nothing_but_in_native(looks, encode, encoder):
    """Why concat is the default: two equal photos are that person. Native asks its queries anew."""
    alone = attend(encode(looks[0]))
    for fusion in (concat_tokens, mean_tokens):
        twice = fusion([looks[0], looks[0]], (1.0, 1.0), encode, encoder)
        torch.testing.assert_close(attend(twice), alone, rtol=1e-5, atol=1e-6)
    twice = native_tokens([looks[0], looks[0]], (1.0, 1.0), encode, encoder)
    assert not torch.allclose(attend(twice), alone, atol=1e-3)


def test_native_gives_the_idformer_all_photos(looks, encode, encoder):
    condition = torch.stack([one.condition for one in looks], dim=1)
    hidden = [
        torch.cat(states, 1) for states in zip(*(x.hidden_states for x in looks), strict=True)
    ]
    tokens = native_tokens(looks, (1.0, 1.0, 1.0), encode, encoder)
    assert torch.equal(tokens, encoder(condition, hidden))
    assert tokens.shape == (1, 8, 32)


def test_mean_can_take_a_photo_away(looks, encode, encoder):
    first, second = encode(looks[0]), encode(looks[1])
    tokens = mean_tokens(looks[:2], (1.5, -0.5), encode, encoder)
    torch.testing.assert_close(tokens, first + 0.5 * (first - second))


@pytest.mark.parametrize(
    ("weights", "count", "fusion", "text"),
    [
        ((1.0, 1.0), 3, "concat", "3 photo.* need 3 weight.*2 were given"),
        ((0.0, 0.0), 2, "mean", "more than 0"),
        ((1.0, -1.0), 2, "mean", "more than 0"),
        ((float("nan"),), 1, "mean", "more than 0"),
        ((2.0, -1.0), 2, "concat", "mean, which can take a photo away"),
        ((2.0, -1.0), 2, "native", "mean, which can take a photo away"),
    ],
)
def test_weights_that_make_no_sense(weights, count, fusion, text):
    with pytest.raises(PulidError, match=text):
        check_weights(weights, count, fusion)


@given(WEIGHTS)
def test_copies_are_few_and_keep_the_order(weights):
    """At least one copy each, at most four, more for more weight, and no common divisor."""
    copies = whole_copies(weights)
    assert all(1 <= number <= 4 for number in copies)
    assert math.gcd(*copies) == 1
    by_weight = [copies[i] for i in sorted(range(len(weights)), key=weights.__getitem__)]
    assert all(less <= more for less, more in pairwise(by_weight))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.floats(-1, 2))
def test_blend_goes_straight_from_one_to_the_other(first_count, second_count, ratio):
    """Ends are exact, the way between is a line, and any token counts fit."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(1, 8 * first_count, 32, generator=generator)
    second = torch.randn(1, 8 * second_count, 32, generator=generator)
    assert torch.equal(blend_tokens(first, second, 0), first)
    assert torch.equal(blend_tokens(first, second, 1), second)
    blended = blend_tokens(first, second, ratio)
    assert blended.isfinite().all()
    if ratio not in (0, 1):
        assert blended.shape[1] == math.lcm(first.shape[1], second.shape[1])
    nearly_first = blend_tokens(first, second, 1e-7)
    torch.testing.assert_close(attend(nearly_first), attend(first), rtol=1e-4, atol=1e-5)
