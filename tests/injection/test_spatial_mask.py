"""Acting where the face is: the folded form against the paper's, and what it multiplies."""

import pytest
import torch
from pulid_pack.pulid_core.injection.attention import (
    CrossAttentionSizes,
    IdentityCrossAttention,
    Seen,
)
from pulid_pack.pulid_core.injection.blocks import Share, add_identities
from pulid_pack.pulid_core.injection.folding import fold_identity
from pulid_pack.pulid_core.injection.masks import TokenMask
from pulid_pack.pulid_core.injection.spatial_mask import (
    Focus,
    Grid,
    centred_prior,
    masks_of_people,
    stage_at,
)
from pulid_pack.tests.injection import plain_spatial_id as plain
from pulid_pack.tests.injection.test_adding import Products
from torch import nn

SIZES = CrossAttentionSizes(count=1, image_dim=64, identity_dim=32, inner_dim=256)
CPU = torch.device("cpu")
TEXT, REFERENCES, ROWS = 5, 3, 2
NOISE = {"early": 0.8, "middle": 0.5, "late": 0.2}


@pytest.fixture(scope="module")
def stored():
    torch.manual_seed(0)
    attention = IdentityCrossAttention(SIZES)
    for parameter in attention.parameters():
        nn.init.normal_(parameter, std=0.3)
    return attention.requires_grad_(False)


def tokens(seed, count=4):
    return torch.randn(1, count, 32, generator=torch.Generator().manual_seed(seed))


def folded(stored, identity):
    copy = IdentityCrossAttention(SIZES)
    copy.load_state_dict(stored.state_dict())
    return fold_identity([copy.requires_grad_(False)], identity, SIZES, "cpu", torch.float32)


def image(grid):
    size = (ROWS, TEXT + grid[0] * grid[1] + REFERENCES, 64)
    return torch.randn(size, generator=torch.Generator().manual_seed(9))


def added(shares, grid):
    """What shares add to the generated tokens; text and references must stay bit for bit."""
    generated = slice(TEXT, TEXT + grid[0] * grid[1])
    delta = add_identities(image(grid), generated, shares, 0) - image(grid)
    assert delta[:, :TEXT].abs().max() == delta[:, generated.stop :].abs().max() == 0
    return delta[:, generated]


def generated(grid):
    return image(grid)[:, TEXT : TEXT + grid[0] * grid[1]]


def focus(grid, stage="middle", floor=0.0, has_rivals=False):
    return Focus.at(stage, Grid.of(*grid, CPU), floor, has_rivals)


def difference(ours, reference):
    return ((ours - reference).abs().max() / reference.abs().max()).item()


@pytest.mark.parametrize("count", [4, 200], ids=["folded", "key/value"])
@pytest.mark.parametrize("grid", [(6, 6), (9, 5), (3, 11)])
@pytest.mark.parametrize(("stage", "floor"), [("middle", 0.0), ("middle", 0.4), ("late", 0.0)])
def test_equals_the_unfolded_form(stored, count, grid, stage, floor):
    """For each picture of a batch, with half the weight: 1e-5 of the largest value."""
    who = tokens(1, count)
    share = Share(slice(0, ROWS), folded(stored, who), [0.5], None, focus(grid, stage, floor))
    reference = plain.contribution(
        stored.state_dict(), who, generated(grid), grid, NOISE[stage], floor
    )
    assert difference(added([share], grid), 0.5 * reference) < 1e-5
    everywhere = added([Share(slice(0, ROWS), folded(stored, who), [0.5], None)], grid)
    assert difference(everywhere, 0.5 * reference) > 0.1


def test_a_painted_mask_is_multiplied(stored):
    """The response is that of the whole picture, whatever part of it a mask leaves."""
    grid, who = (6, 8), tokens(1)
    painted = (torch.arange(48) % 8 < 3).float().unsqueeze(1) * 0.5
    mask = TokenMask.of(painted, CPU, torch.float32, all_look=True)
    share = Share(slice(1, 2), folded(stored, who), [1.0], mask, focus(grid))
    reference = painted * plain.contribution(
        stored.state_dict(), who, generated(grid)[1:], grid, 0.5
    )
    delta = added([share], grid)
    assert difference(delta[1:], reference) < 1e-5
    assert delta[0].abs().max() == delta[1][painted[:, 0] == 0].abs().max() == 0
    assert TokenMask.of(0 * painted, CPU, torch.float32, all_look=True) is None


@pytest.mark.parametrize("counts", [(4, 4), (4, 8), (4, 200, 4)])
def test_people_each_at_their_own_face(stored, counts):
    """Side by side in one product or not: the sum of what each adds alone."""
    grid = (6, 7)
    who = [tokens(i, count) for i, count in enumerate(counts)]
    everyone = focus(grid)
    shares = [Share(slice(0, ROWS), folded(stored, t), [1.0], None, everyone) for t in who]
    reference = sum(
        plain.contribution(stored.state_dict(), t, generated(grid), grid, 0.5) for t in who
    )
    assert difference(added(shares, grid), reference) < 1e-5


@pytest.mark.parametrize("stage", NOISE)
@pytest.mark.parametrize("counts", [(4, 4), (4, 8), (4, 200, 4)])
def test_people_who_divide_the_picture(stored, counts, stage):
    grid = (6, 7)
    who = [tokens(i, count) for i, count in enumerate(counts)]
    rivals = focus(grid, stage, has_rivals=True)
    shares = [Share(slice(0, ROWS), folded(stored, t), [1.0], None, rivals) for t in who]
    reference = plain.shared_contributions(
        stored.state_dict(), who, generated(grid), grid, NOISE[stage]
    )
    assert difference(added(shares, grid), reference) < 1e-5


def test_rivals_are_those_of_the_same_rows(stored):
    """People on different pictures of a batch leave each other alone."""
    grid = (6, 7)
    one, two = (folded(stored, tokens(i)) for i in (1, 2))
    rivals = focus(grid, has_rivals=True)
    apart = [
        Share(slice(0, 1), one, [1.0], None, rivals),
        Share(slice(1, 2), two, [1.0], None, rivals),
    ]
    alone = [
        Share(slice(0, 1), one, [1.0], None, focus(grid)),
        Share(slice(1, 2), two, [1.0], None, focus(grid)),
    ]
    assert torch.equal(added(apart, grid), added(alone, grid))


@pytest.mark.parametrize("stage", NOISE)
def test_who_answers_more_strongly_gets_the_place(stage):
    """Parts add up to one; a response stronger by half of its range takes nearly all."""
    grid = (8, 8)
    left = torch.zeros(1, 64, 1)
    left[:, torch.arange(64) % 8 < 4] = 1
    one, two = masks_of_people(
        [focus(grid, stage, has_rivals=True)] * 2, [left, torch.cat((1 - left,))]
    )
    assert one.view(8, 8)[:, :3].min() > 10 * one.view(8, 8)[:, 5:].max()
    assert torch.allclose(one.view(8, 8), two.view(8, 8).flip(1), atol=1e-6)
    if stage == "early":
        assert torch.allclose(one + two, torch.ones_like(one))


@pytest.mark.parametrize(("grid", "floor"), [((8, 8), 0.0), ((5, 9), 0.2), ((1, 1), 0.0)])
def test_the_prior_is_the_paper_s(grid, floor):
    size = (2 * grid[0], 2 * grid[1])
    ours = centred_prior(size, (*size, 0, 0), 2).clamp(min=floor)
    assert torch.allclose(ours, plain.mask(None, grid, 0.9, floor), atol=1e-6)


def test_a_part_of_the_picture_sees_its_part_of_the_prior():
    """Also where a picture's odd size is padded, and around the border."""
    whole = centred_prior((12, 15), (12, 15, 0, 0), 2).view(6, 8)
    assert torch.equal(centred_prior((12, 15), (4, 6, 2, 8), 2).view(2, 3), whole[1:3, 4:7])
    around = centred_prior((12, 16), (4, 4, 10, 14), 2).view(2, 2)
    whole = centred_prior((12, 16), (12, 16, 0, 0), 2).view(6, 8)
    assert torch.equal(around, whole.roll((1, 1), (0, 1))[:2, :2])


def test_stages_begin_where_the_sampler_s_numbers_do():
    """Noise of exactly 0.7 and 0.3 in float32, as a step may have."""
    ends = [float(torch.tensor(x)) for x in (0.7, 0.3)]
    assert [stage_at(x) for x in (1.0, 0.701, *ends, 0.299, 0.0)] == [
        *("early", "early", "middle", "late", "late", "late")
    ]


@pytest.mark.parametrize("grid", [(1, 1), (1, 2), (2, 1), (2, 2), (1, 40)])
def test_pictures_of_a_few_tokens(stored, grid):
    share = Share(slice(0, ROWS), folded(stored, tokens(1)), [1.0], None, focus(grid, "late"))
    assert added([share], grid).isfinite().all()


def test_an_identity_that_answers_nowhere():
    """Without any difference there is no face to find: only what is asked for at least."""
    level = torch.full((1, 36, 1), 3.0)
    (mask,) = masks_of_people([focus((6, 6), floor=0.2)], [level])
    assert mask.unique().tolist() == pytest.approx([0.2])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_finds_the_same_place(stored, dtype):
    """A token at the threshold may fall to its other side; the others differ by a hundredth at most."""
    grid = (12, 12)
    (who,) = folded(stored, tokens(1)).to(dtype)
    picture = generated(grid)[:1].to(dtype)
    responses = who.responses(who.look(Seen.of(picture), [who]), [who])
    (ours,) = masks_of_people([focus(grid)], [responses])
    (values,) = plain.gathered(stored.state_dict(), tokens(1), picture.float())
    differences = (ours[0] - plain.mask(values, grid, 0.5)).abs()
    assert differences.median() < 0.01
    assert (differences > 0.02).sum() <= 0.05 * len(differences)


def test_a_gradient_passes():
    """Places are taken as given; what is added to them is not."""
    torch.manual_seed(0)
    attention = IdentityCrossAttention(SIZES).requires_grad_(False)
    held = image((6, 6)).requires_grad_()
    share = Share(slice(0, ROWS), folded(attention, tokens(1)), [1.0], None, focus((6, 6)))
    add_identities(held, slice(TEXT, TEXT + 36), [share], 0).sum().backward()
    assert held.grad.isfinite().all()


@pytest.mark.parametrize("people", [1, 2, 4])
def test_what_it_multiplies(people):
    """At FLUX's width, 1024 px: at most 3 % more, in one more product for all people and two that blur."""
    sizes = CrossAttentionSizes(count=1, image_dim=3072, identity_dim=64, inner_dim=2048)
    with torch.no_grad():
        torch.manual_seed(0)
        stored = IdentityCrossAttention(sizes).requires_grad_(False)
        who = fold_identity([stored], torch.randn(1, 32, 64), sizes, "cpu", torch.float32)
    who = who.to("meta")
    picture = torch.empty(1, 4096, 3072, device="meta")
    grid = Grid(torch.empty(64, 64, device="meta"), torch.empty(64, 64, device="meta"))
    counted = []
    for kept in (None, Focus(grid, 0.0, 0.0, True, people > 1)):
        shares = [Share(slice(0, 1), who, [1.0], None, kept)] * people
        with Products() as products, torch.no_grad():
            add_identities(picture, slice(0, 4096), shares, 0)
        counted.append(products)
    everywhere, at_faces = counted
    assert at_faces.count == everywhere.count + 3
    assert at_faces.multiplications <= 1.03 * everywhere.multiplications
