"""The identity cross attention: image tokens look at identity tokens.

`IdentityCrossAttention` holds the weights of a checkpoint. What runs while sampling is one of the two
modules below it: they know one identity, and everything constant is multiplied into their weights.
`folding` makes them. Each first looks at the image tokens (`look`), then adds a product with the matrix
of its `out` layer to them (`add_products`), so that all of several identities see the same tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEAD_DIM = 128  # PuLID pulid/encoders_transformer.py PerceiverAttentionCA(dim_head=128)
NORM_EPS = 1e-5  # nn.LayerNorm's own


@dataclass(frozen=True)
class CrossAttentionSizes:
    """Sizes of the cross attentions of one checkpoint. Values behind each field: PuLID-FLUX."""

    count: int  # 20
    image_dim: int  # 3072, the width of FLUX
    identity_dim: int  # 2048
    inner_dim: int  # 2048 = 16 heads * 128

    @classmethod
    def from_shapes(cls, shapes: Mapping[str, tuple[int, ...]]) -> CrossAttentionSizes:
        """Read the sizes from key -> shape, keys without the `pulid_ca.` prefix.

        Raises:
            KeyError: A key that carries a size is missing.
        """
        inner_dim, image_dim = shapes["0.to_q.weight"]
        return cls(
            count=sum(key.endswith(".to_q.weight") for key in shapes),
            image_dim=image_dim,
            identity_dim=shapes["0.to_kv.weight"][1],
            inner_dim=inner_dim,
        )

    @property
    def heads(self) -> int:
        """Attention heads, 16."""
        return self.inner_dim // HEAD_DIM


class IdentityCrossAttention(nn.Module):
    """The weights of one cross attention, as the checkpoint stores them."""

    def __init__(self, sizes: CrossAttentionSizes, ops: Any = nn):
        super().__init__()
        self.heads = sizes.heads
        self.norm1 = ops.LayerNorm(sizes.identity_dim)
        self.norm2 = ops.LayerNorm(sizes.image_dim)
        self.to_q = ops.Linear(sizes.image_dim, sizes.inner_dim, bias=False)
        self.to_kv = ops.Linear(sizes.identity_dim, sizes.inner_dim * 2, bias=False)
        self.to_out = ops.Linear(sizes.inner_dim, sizes.image_dim, bias=False)

    def keys_and_values(self, identity_tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Project identity tokens (1, N, 2048) to keys and values, (heads, N, 128) each."""
        keys, values = self.to_kv(self.norm1(identity_tokens)).chunk(2, dim=-1)
        keys, values = (x[0].unflatten(-1, (self.heads, HEAD_DIM)) for x in (keys, values))
        return keys.transpose(0, 1), values.transpose(0, 1)


class Plain:
    """Layers whose weights are where and what they are used with."""

    class Linear(nn.Linear):
        """A linear layer that lends its weights."""

        @contextmanager
        def lent(self, _: Tensor) -> Iterator[tuple[Tensor, Tensor | None]]:
            """Lend weight and bias for products with a tensor."""
            yield self.weight, self.bias


@dataclass(frozen=True, eq=False)
class Seen:
    """Image tokens as the attentions look at them: normalised, or with what normalises them.

    The first matrices of the attentions are centred (each row has a mean of 0), so a layer norm before
    them comes down to a division by the deviation, which the small product can take as well.
    """

    tokens: Tensor
    """(B, T, 3072)."""
    scale: Tensor | None
    """1 / deviation, (B, T, 1), still to be multiplied; None where the tokens are normalised."""

    @classmethod
    def of(cls, tokens: Tensor) -> Seen:
        """Measure tokens in float32, where a copy of them costs more; normalise them in 16 bit.

        In 16 bit products of tokens that are not normalised would overflow or lose digits, and on a GPU
        one layer norm takes less time than the two sums.
        """
        width = tokens.shape[-1]
        if tokens.dtype != torch.float32:
            return cls(F.layer_norm(tokens, (width,), eps=NORM_EPS), None)
        square = torch.linalg.vector_norm(tokens, dim=-1, keepdim=True).square() / width
        mean = tokens.mean(-1, keepdim=True)
        return cls(tokens, torch.rsqrt((square - mean.square()).clamp_(min=0) + NORM_EPS))

    def through(self, layers: Sequence[Any]) -> Tensor:
        """LayerNorm, then layers with centred weights side by side, (B, T, sum of their outputs)."""
        with ExitStack() as stack:
            lent = [stack.enter_context(layer.lent(self.tokens)) for layer in layers]
            weight, bias = (_side_by_side(tensors) for tensors in zip(*lent, strict=True))
            if self.scale is None:
                return F.linear(self.tokens, weight, bias)
            return torch.addcmul(bias, F.linear(self.tokens, weight), self.scale)


class FoldedAttention(nn.Module):
    """A cross attention for one identity: two matrices with a softmax per head between them."""

    def __init__(self, sizes: CrossAttentionSizes, tokens: int, ops: Any = Plain):
        super().__init__()
        self.scores = ops.Linear(sizes.image_dim, sizes.heads * tokens)
        self.out = ops.Linear(sizes.heads * tokens, sizes.image_dim, bias=False)
        self.lengths = ValueLengths(sizes.heads, tokens)
        self.tokens = tokens

    @staticmethod
    def look(seen: Seen, people: Sequence[FoldedAttention]) -> Tensor:
        """How much each image token looks at the tokens of people, (B, T, people * heads * N)."""
        scores = seen.through([person.scores for person in people])
        scores = scores.unflatten(-1, (-1, people[0].tokens))
        return scores.softmax(-1).flatten(2)  # computed in float32 whatever the dtype

    @staticmethod
    def responses(look: Tensor, people: Sequence[FoldedAttention]) -> Tensor:
        """How long the values are that each image token gathers: of a look, (B, T, people), float32.

        All lengths of an attention are to the same scale, which is not theirs.
        """
        roots = torch.cat([person.lengths(look) for person in people])
        per_head = look.flatten(0, 1).unflatten(-1, (-1, people[0].tokens)).transpose(0, 1)
        gathered = torch.bmm(per_head, roots)  # (people * heads, B * T, at most N)
        lengths = torch.linalg.vector_norm(gathered, dim=-1, dtype=torch.float32)
        lengths = torch.linalg.vector_norm(lengths.unflatten(0, (len(people), -1)), dim=1)
        return lengths.T.unflatten(0, look.shape[:2])


class KeyValueAttention(nn.Module):
    """A cross attention for one identity with many tokens: projections, keys and values."""

    def __init__(self, sizes: CrossAttentionSizes, tokens: int, ops: Any = Plain):
        super().__init__()
        self.heads = sizes.heads
        self.queries = ops.Linear(sizes.image_dim, sizes.inner_dim)
        self.identity = KeysAndValues(sizes.heads, tokens)
        self.out = ops.Linear(sizes.inner_dim, sizes.image_dim, bias=False)

    @staticmethod
    def look(seen: Seen, people: Sequence[KeyValueAttention]) -> Tensor:
        """What each image token gathers of people, (B, T, people * heads * 128)."""
        return torch.cat([person._gather(seen) for person in people], dim=-1)

    @staticmethod
    def responses(look: Tensor, people: Sequence[KeyValueAttention]) -> Tensor:
        """How long the values are that each image token gathers: of a look, (B, T, people), float32."""
        per_person = look.unflatten(-1, (len(people), -1))
        return torch.linalg.vector_norm(per_person, dim=-1, dtype=torch.float32)

    def _gather(self, seen: Seen) -> Tensor:
        queries = seen.through([self.queries]).unflatten(-1, (self.heads, HEAD_DIM)).transpose(1, 2)
        keys, values = self.identity(queries)
        # The scale is part of the keys.
        out = F.scaled_dot_product_attention(queries, keys, values, scale=1.0)
        return out.transpose(1, 2).flatten(2)


def add_products(
    tokens: Tensor, looks: Tensor, layers: Sequence[Any], weights: Sequence[float]
) -> None:
    """tokens += sum of weight * layer(its part of looks), in one pass over the tokens.

    Args:
        tokens: (B, T, D), changed in place.
        looks: (B, T, inputs of all layers side by side).
        layers: Without bias.
        weights: One per layer.
    """
    with ExitStack() as stack:
        matrices = [stack.enter_context(layer.lent(tokens))[0] for layer in layers]
        alpha = weights[0]
        if any(weight != alpha for weight in weights):
            matrices = [m * weight for m, weight in zip(matrices, weights, strict=True)]
            alpha = 1.0
        matrix = _side_by_side(matrices, dim=1).t()
        for row in range(len(tokens)):
            tokens[row].addmm_(looks[row], matrix, alpha=alpha)


def _side_by_side(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tuple(tensors), dim)


class KeysAndValues(nn.Module):
    """What one identity brings to one attention. Not a layer that casts, so it moves by itself."""

    def __init__(self, heads: int, tokens: int):
        super().__init__()
        self.keys = nn.Parameter(torch.empty(1, heads, tokens, HEAD_DIM), requires_grad=False)
        self.values = nn.Parameter(torch.empty(1, heads, tokens, HEAD_DIM), requires_grad=False)

    def forward(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Give keys and values (B, heads, N, 128) with the device and dtype of the queries."""
        rows = len(queries)
        keys, values = self.keys.to(queries), self.values.to(queries)
        return keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1)


class ValueLengths(nn.Module):
    """What remains of the values beside `out`. Not a layer that casts, so it moves by itself.

    Per head a root R of the products of each two values: R R^T = V V^T, so |a R| = |a V|.
    """

    def __init__(self, heads: int, tokens: int):
        super().__init__()
        root = torch.empty(heads, tokens, min(tokens, HEAD_DIM))
        self.root = nn.Parameter(root, requires_grad=False)

    def forward(self, like: Tensor) -> Tensor:
        """Give the roots, (heads, N, at most N), with the device and dtype of a tensor."""
        return self.root.to(like)


class IdentityAttentions(nn.ModuleList):
    """All attentions of one checkpoint for one identity, in injection order."""
