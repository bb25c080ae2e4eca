"""What is added to image tokens: by whom, where, and with how many products."""

import pytest
import torch
from pulid_pack.pulid_core.injection.attention import (
    CrossAttentionSizes,
    IdentityCrossAttention,
)
from pulid_pack.pulid_core.injection.blocks import Share, add_identities
from pulid_pack.pulid_core.injection.folding import fold_identity
from pulid_pack.pulid_core.injection.masks import TokenMask
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

SIZES = CrossAttentionSizes(count=1, image_dim=64, identity_dim=32, inner_dim=256)
TOKENS, TEXT, REFERENCES = 24, 5, 3
GENERATED = slice(TEXT, TEXT + TOKENS)
EVERYWHERE = torch.ones(TOKENS, 1)


def person(seed, tokens=4):
    torch.manual_seed(seed)
    stored = IdentityCrossAttention(SIZES)
    for parameter in stored.parameters():
        nn.init.normal_(parameter, std=0.3)
    with torch.no_grad():
        return fold_identity([stored], torch.randn(1, tokens, 32), SIZES, "cpu", torch.float32)


def share(attentions, rows=slice(0, 2), weight=1.0, mask=None):
    if mask is not None:
        mask = TokenMask.of(mask, torch.device("cpu"), torch.float32)
    return Share(rows, attentions, [weight], mask)


def image(rows=2):
    generator = torch.Generator().manual_seed(9)
    return torch.randn(rows, TEXT + TOKENS + REFERENCES, 64, generator=generator)


def added(shares, in_place=False):
    return add_identities(image(), GENERATED, shares, 0, in_place) - image()


def first_half():
    return (torch.arange(TOKENS) < TOKENS // 2).float().unsqueeze(1)


@pytest.mark.parametrize("tokens", [4, 200], ids=["folded", "key/value"])
def test_only_the_generated_tokens_change(tokens):
    """Text before and references behind them stay bit for bit, also in place."""
    for in_place in (False, True):
        delta = added([share(person(1, tokens))], in_place)
        assert delta[:, GENERATED].abs().min(-1).values.max() > 0
        assert delta[:, :TEXT].abs().max() == delta[:, GENERATED.stop :].abs().max() == 0


def test_in_place_is_the_same_and_changes_nothing_else():
    shares = [share(person(1), weight=0.7), share(person(2, 200), mask=first_half())]
    mine, held = image(), image()
    assert torch.equal(
        add_identities(mine, GENERATED, shares, 0, True), add_identities(held, GENERATED, shares, 0)
    )
    assert not torch.equal(mine, image())
    assert torch.equal(held, image())


def test_a_tensor_of_a_gradient_is_never_changed():
    held = image().requires_grad_()
    add_identities(held, GENERATED, [share(person(1))], 0, True).sum().backward()
    assert held.grad is not None


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (1.0, 0.4, -0.6)])
@pytest.mark.parametrize("tokens", [(4, 4, 4), (4, 8, 4), (4, 200, 200)])
def test_people_side_by_side_add_up(weights, tokens):
    """All see the block's own output, whichever products they share."""
    shares = [
        share(person(i, count), weight=weight)
        for i, (weight, count) in enumerate(zip(weights, tokens, strict=True))
    ]
    alone = sum(added([one]) for one in shares)
    assert torch.allclose(added(shares), alone, atol=1e-4)


def test_rows_and_masks_keep_to_their_place():
    """Other rows and masked tokens stay bit for bit; a soft mask scales."""
    soft = first_half() * 0.25
    delta = added([share(person(1), slice(1, 2), mask=soft)])
    full = added([share(person(1), slice(1, 2))])
    half = slice(TEXT, TEXT + TOKENS // 2)
    assert torch.allclose(delta[1, half], 0.25 * full[1, half], atol=1e-5)
    delta[1, half] = 0
    assert delta.abs().max() == 0
    everywhere = added([share(person(1), mask=EVERYWHERE * 0.5)])
    assert torch.allclose(everywhere, 0.5 * added([share(person(1))]), atol=1e-5)


def test_a_mask_of_zeros_is_no_mask_to_run_for():
    assert TokenMask.of(0 * EVERYWHERE, torch.device("cpu"), torch.float32) is None


PRODUCTS = {getattr(torch.ops.aten, name) for name in ("mm", "bmm", "addmm", "addmm_")}


class Products(TorchDispatchMode):
    """Counts matrix products and their multiplications."""

    def __init__(self):
        super().__init__()
        self.count = self.multiplications = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket in PRODUCTS:
            left, right = args[-2:]
            self.count += 1
            self.multiplications += left.numel() * right.shape[-1]
        return func(*args, **(kwargs or {}))


def products(shares):
    with Products() as counted, torch.no_grad():
        added(shares)
    return counted


def test_people_with_disjoint_masks_cost_one_person():
    """Nothing is computed where a mask is 0."""
    one = products([share(person(1))])
    halves = [share(person(1), mask=first_half()), share(person(2), mask=1 - first_half())]
    assert products(halves).multiplications == one.multiplications > 0


@pytest.mark.parametrize("people", [1, 2, 4])
def test_people_without_masks_share_their_products(people):
    """However many: one product that looks, and one that adds for each row of the batch."""
    shares = [share(person(i), weight=1.0 + i) for i in range(people)]
    assert products(shares).count == 1 + 2
