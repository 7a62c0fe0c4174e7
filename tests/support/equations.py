"""Layers as sums and products of a state dict's tensors, for tests that write a network down a second time.

Nothing here is a module or a convolution of torch's: places are cut out of the map one by one and multiplied.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

State = Mapping[str, Tensor]


def shaken(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """The network in float64 and evaluation mode, with every parameter and running statistic away from its start."""
    generator = torch.Generator().manual_seed(seed)
    model = model.double().eval()
    for name, tensor in model.state_dict().items():
        if tensor.dtype.is_floating_point:
            noise = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
            noise *= 0.2 if tensor.ndim < 2 else 0.5 * float(tensor.std())
            tensor.copy_(tensor + (noise.abs() if name.endswith("running_var") else noise))
    return model


def below(state: State, name: str) -> dict[str, Tensor]:
    """The part of a state dict below a name, without it."""
    return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}


def patches(x: Tensor, kernel: int, stride: int, padding: int, filling: float = 0.0) -> Tensor:
    """[N, C, H, W] -> [kernel * kernel, N, C, H', W'], what each place of the kernel sees."""
    n, c, height, width = x.shape
    padded = torch.full((n, c, height + 2 * padding, width + 2 * padding), filling, dtype=x.dtype)
    padded[:, :, padding : padding + height, padding : padding + width] = x
    tall, wide = (1 + (side + 2 * padding - kernel) // stride for side in (height, width))
    offsets = [(i, j) for i in range(kernel) for j in range(kernel)]
    return torch.stack(
        [padded[:, :, i : i + stride * tall : stride, j : j + stride * wide : stride] for i, j in offsets]
    )


def convolution(x: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
    """Without bias, padded so that stride 1 keeps the size."""
    seen = patches(x, weight.shape[-1], stride, weight.shape[-1] // 2)
    return torch.einsum("knchw,ock->nohw", seen, weight.flatten(2))


def batch_norm(x: Tensor, state: State) -> Tensor:
    """In evaluation mode, over dimension 1 of [N, C, H, W]."""
    mean, variance, scale, shift = (
        state[name][:, None, None] for name in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (variance + 1e-5).sqrt() * scale + shift


def relu(x: Tensor) -> Tensor:
    return x.clamp(min=0)


def max_pool(x: Tensor) -> Tensor:
    """3 x 3, stride 2."""
    return patches(x, 3, 2, 1, filling=-math.inf).amax(dim=0)


def basic_block(x: Tensor, state: State) -> Tensor:
    """A ResNet's, with stride 2 if it has a downsampling shortcut."""
    halves = "downsample.0.weight" in state
    y = relu(batch_norm(convolution(x, state["conv1.weight"], 1 + halves), below(state, "bn1")))
    y = batch_norm(convolution(y, state["conv2.weight"]), below(state, "bn2"))
    return relu(y + shortcut(x, state)) if halves else relu(y + x)


def shortcut(x: Tensor, state: State) -> Tensor:
    """1 x 1, stride 2, normalised."""
    halved = torch.einsum("nchw,oc->nohw", x[:, :, ::2, ::2], state["downsample.0.weight"][:, :, 0, 0])
    return batch_norm(halved, below(state, "downsample.1"))


def stage(x: Tensor, state: State, blocks: int) -> Tensor:
    for number in range(blocks):
        x = basic_block(x, below(state, str(number)))
    return x


def layer_norm(x: Tensor, state: State) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt() * state["weight"] + state["bias"]


def gelu(x: Tensor) -> Tensor:
    """The tanh form."""
    return 0.5 * x * (1 + (math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)).tanh())


def attention(x: Tensor, state: State, heads: int) -> Tensor:
    """[B, N, D], with keys named as in `dfer.models.transformer.Attention`."""
    b, n, _ = x.shape
    queries, keys, values = (
        torch.einsum("bnd,ed->bne", x, weight).reshape(b, n, heads, -1)
        for weight in state["qkv.weight"].tensor_split(3)
    )
    scores = torch.einsum("bihd,bjhd->bhij", queries, keys) / math.sqrt(queries.shape[-1])
    shares = scores.exp() / scores.exp().sum(dim=-1, keepdim=True)
    mixed = torch.einsum("bhij,bjhd->bihd", shares, values).reshape(b, n, -1)
    return torch.einsum("bne,de->bnd", mixed, state["out.weight"]) + state["out.bias"]


def transformer_block(x: Tensor, state: State, heads: int) -> Tensor:
    """Pre-norm, with keys named as in `dfer.models.transformer.TransformerBlock`."""
    x = x + attention(layer_norm(x, below(state, "attention_norm")), below(state, "attention"), heads)
    hidden = torch.einsum(
        "bnd,ed->bne", layer_norm(x, below(state, "feed_forward_norm")), state["feed_forward.0.weight"]
    )
    hidden = gelu(hidden + state["feed_forward.0.bias"])
    return x + torch.einsum("bne,de->bnd", hidden, state["feed_forward.2.weight"]) + state["feed_forward.2.bias"]


def transformer(x: Tensor, state: State, blocks: int, heads: int) -> Tensor:
    for number in range(blocks):
        x = transformer_block(x, below(state, str(number)), heads)
    return x


def classifier(x: Tensor, state: State, name: str = "fc") -> Tensor:
    return torch.einsum("bd,kd->bk", x, state[f"{name}.weight"]) + state[f"{name}.bias"]
