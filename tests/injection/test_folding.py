"""Folded attention at FLUX's real width against the module it stands for, diffusers' copy of it."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from pulid_pack.pulid_core.injection.attention import (
    CrossAttentionSizes,
    FoldedAttention,
    IdentityCrossAttention,
    KeyValueAttention,
    Seen,
)
from pulid_pack.pulid_core.injection.folding import (
    fold_attention,
    fold_identity,
    is_folding_smaller,
)
from torch import nn

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the peer warns about optional packages on import
    from diffusers.models.transformers.consisid_transformer_3d import PerceiverCrossAttention

SIZES = CrossAttentionSizes(count=20, image_dim=3072, identity_dim=2048, inner_dim=2048)
FORMS = {32: FoldedAttention, 160: KeyValueAttention}
IMAGE_TOKENS = 256


@pytest.fixture(scope="module")
def peer():
    """Weights as wide as trained ones: scores spread over several units, norms are not neutral."""
    torch.manual_seed(0)
    peer = PerceiverCrossAttention(dim=3072, dim_head=128, heads=16, kv_dim=2048).eval()
    for parameter in peer.parameters():
        nn.init.normal_(parameter, std=0.03)
    nn.init.normal_(peer.norm2.weight, mean=1, std=0.3)
    nn.init.normal_(peer.norm1.weight, mean=1, std=0.3)
    return peer.requires_grad_(False)


@pytest.fixture(scope="module")
def checkpoint(peer):
    module = IdentityCrossAttention(SIZES)
    module.load_state_dict(peer.state_dict())
    return module.requires_grad_(False)


def tokens(count: int, seed: int = 1):
    return torch.randn(1, count, 2048, generator=torch.Generator().manual_seed(seed))


def image():
    return 3 * torch.randn(2, IMAGE_TOKENS, 3072, generator=torch.Generator().manual_seed(2))


def run(module, picture):
    look = module.look(Seen.of(picture), [module])
    return F.linear(look, module.out.weight)


def folded(form, checkpoint, identity, dtype=torch.float32):
    module = form(SIZES, identity.shape[1]).to(dtype)
    module.load_state_dict(fold_attention(checkpoint, identity, SIZES))
    return module.requires_grad_(False)


def largest_difference(a, b):
    return ((a.float() - b.float()).abs().max() / b.float().abs().max()).item()


@pytest.mark.parametrize("count", FORMS)
def test_float32_equals_the_reference(peer, checkpoint, count):
    """1e-5 of the value range, for the form that the size chooses."""
    ours = run(folded(FORMS[count], checkpoint, tokens(count)), image())
    reference = peer(tokens(count).expand(2, -1, -1), image())
    assert largest_difference(ours, reference) < 1e-5


@pytest.mark.parametrize("count", FORMS)
def test_bfloat16_is_as_close_to_the_truth_as_the_reference(peer, checkpoint, count):
    """The root mean square error against float32, of what both give from the same bf16 inputs."""
    picture, identity = image().bfloat16(), tokens(count).bfloat16()
    expanded = identity.expand(2, -1, -1)
    stored = PerceiverCrossAttention(dim=3072, dim_head=128, heads=16, kv_dim=2048)
    stored.load_state_dict(peer.state_dict())
    stored = stored.bfloat16().requires_grad_(False)  # as the checkpoint holds them
    reference = stored(expanded, picture).float()
    truth = stored.float()(expanded.float(), picture.float())
    checkpoint = IdentityCrossAttention(SIZES)
    checkpoint.load_state_dict(stored.state_dict())
    ours = run(
        folded(FORMS[count], checkpoint.requires_grad_(False), identity.float(), torch.bfloat16),
        picture,
    )
    error, peer_error = ((x.float() - truth).square().mean().sqrt() for x in (ours, reference))
    assert error <= peer_error


@pytest.mark.parametrize("count", [1, 31])
def test_both_forms_agree(checkpoint, count, monkeypatch):
    """The same result from the folded and from the key/value form."""
    short = folded(FoldedAttention, checkpoint, tokens(count))
    monkeypatch.setattr(
        "pulid_pack.pulid_core.injection.folding.is_folding_smaller", lambda *_: False
    )
    long = folded(KeyValueAttention, checkpoint, tokens(count))
    assert largest_difference(run(short, image()), run(long, image())) < 1e-5


def test_the_smaller_form_is_chosen():
    """For PuLID-FLUX the forms meet between 133 and 134 tokens: up to four photos are folded."""
    assert is_folding_smaller(SIZES, 133)
    assert not is_folding_smaller(SIZES, 134)
    for count, form in FORMS.items():
        with torch.device("meta"):
            sizes = {
                f: sum(p.numel() for p in f(SIZES, count).parameters()) for f in FORMS.values()
            }
        assert min(sizes, key=lambda f: sizes[f]) is form


@pytest.mark.parametrize("count", FORMS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_large_tokens_do_not_overflow_in_16_bit(checkpoint, count, dtype):
    """FLUX's tokens have channels of several hundred times the others' size."""
    picture = image()
    picture[..., [3, 50]] *= 3000
    truth = run(folded(FORMS[count], checkpoint, tokens(count)), picture.to(dtype).float())
    ours = run(folded(FORMS[count], checkpoint, tokens(count), dtype), picture.to(dtype))
    assert largest_difference(ours, truth) < 0.05


def test_a_whole_checkpoint(checkpoint):
    """One module per attention, in the dtype asked for; 126 MB for twenty of them in 16 bit."""
    result = fold_identity([checkpoint] * 2, tokens(32), SIZES, "cpu", torch.bfloat16)
    assert [type(module) for module in result] == [FoldedAttention] * 2
    size = sum(p.numel() * p.element_size() for p in result.parameters()) * SIZES.count / 2
    assert {p.dtype for p in result.parameters()} == {torch.bfloat16}
    assert size == pytest.approx(126e6, rel=0.01)
