"""The transformer block (Vaswani et al. 2017) with its normalisation in front, as networks for expressions use it."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Multi-head self-attention, float[B, N, D] -> float[B, N, D]: every token looks at all N of its sequence.

    Queries, keys and values without bias, the output with one; scores are divided by the root of `head_dim`.
    """

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * heads * head_dim, bias=False)
        self.out = nn.Linear(heads * head_dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Without a mask; in the precision of autocast."""
        queries, keys, values = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(queries, keys, values)  # [B, heads, N, head_dim]
        out: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return out


class FeedForward(nn.Sequential):
    """Two linear layers with a GELU (its tanh form) between them, the same for every token; D -> `hidden` -> D."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__(nn.Linear(dim, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, dim))


class TransformerBlock(nn.Module):
    """Attention, then a feed-forward layer, float[B, N, D] -> float[B, N, D].

    Each is computed from its normalised input and added to it; nothing is normalised after the sum, and nothing is
    dropped. Without positions in the tokens, permuting them permutes the output.
    """

    def __init__(self, dim: int, heads: int, head_dim: int, feed_forward: int) -> None:
        """`heads` times `head_dim` may be another number than `dim`; `feed_forward` is the hidden layer's size."""
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, head_dim)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim, feed_forward)

    def forward(self, tokens: Tensor) -> Tensor:
        """The residual sums keep the precision of `tokens`."""
        tokens = tokens + self.attention(self.attention_norm(tokens))
        out: Tensor = tokens + self.feed_forward(self.feed_forward_norm(tokens))
        return out
