"""FDAM for any transformer block: the parts that our own hosts are made of, and one function that adds them to others'.

A block has FDAM when its attention's output is mixed with its inversion (``layers.att_inv``) before the output
projection, and when FreqScale (``layers.freq_scale``) follows the attention and the MLP inside the residual branches.
``ViTFDAM`` and ``MiTFDAM`` do this in their own code, with ``give_att_inv``, ``invert`` and ``scale_tokens``;
:func:`add_fdam` does the same to a block that is there already, by forward hooks, so that neither its code nor its
state-dict keys change. The new parameters have the published names (Chen, Gu, Fu, ICCV 2025, arXiv 2507.12006).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fdam_rotate.models.layers.att_inv import att_inv_weights, blend_inversion, head_logits, reset_modulation
from fdam_rotate.models.layers.freq_scale import FreqScale
from fdam_rotate.models.layers.star_relu import StarReLU

__all__ = ["add_fdam", "give_att_inv", "invert", "scale_tokens"]


def give_att_inv(attention: nn.Module, dim: int, num_heads: int) -> None:
    """Register AttInv's parameters in an attention module, at their start (gammas of 1e-5).

    Args:
        attention: The module that will hold ``dy_freq``, ``dy_freq_2``, ``dy_freq_starrelu`` and the two gammas.
        dim: Channels C.
        num_heads: Attention heads h; divides ``dim``.

    Raises:
        ValueError: Where ``num_heads`` does not divide ``dim``, or the module has AttInv already.
    """
    if num_heads < 1 or dim % num_heads:
        raise ValueError(f"num_heads must divide dim, got dim={dim} and num_heads={num_heads}")
    if hasattr(attention, "dy_freq"):
        raise ValueError(f"{type(attention).__name__} has AttInv already")
    attention.dy_freq = nn.Linear(dim, num_heads)
    attention.dy_freq_2 = nn.Linear(dim, num_heads)
    attention.dy_freq_starrelu = StarReLU()
    attention.lf_gamma = nn.Parameter(torch.empty(dim))
    attention.hf_gamma = nn.Parameter(torch.empty(dim))
    reset_modulation(attention)


def invert(attention: nn.Module, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
    """Mix attention's output with its inversion: ``y + lf_gamma * alpha * y + hf_gamma * beta * (v - y)``.

    Args:
        attention: The module that :func:`give_att_inv` or ``AttInvAttention`` gave its parameters.
        x: The attention's input (..., C), which decides alpha and beta for each token and head.
        y: Its output before the projection, of the shape of ``x``; channel ``head * (C / h) + i``.
        v: The values at the same places, of the shape of ``x``.

    Returns:
        Tensor of the shape and dtype of ``y``.

    Raises:
        ValueError: Where the shapes differ, as with values of fewer tokens (spatial reduction).
    """
    if not x.shape == y.shape == v.shape:
        raise ValueError(
            f"AttInv needs input, output and values of one shape, got {tuple(x.shape)}, {tuple(y.shape)} and "
            f"{tuple(v.shape)}; for attention over reduced tokens see MiTFDAM"
        )
    dim, num_heads = x.shape[-1], attention.dy_freq.out_features
    tokens = x.reshape(1, -1, dim).transpose(1, 2)  # (1, C, all tokens)
    logits = head_logits(tokens, attention.dy_freq, attention.dy_freq_2, attention.dy_freq_starrelu)
    alpha, beta = (w[0].T[..., None].to(y.dtype) for w in att_inv_weights(*logits))  # (tokens, h, 1)
    low, high = (
        (weight * gamma.view(num_heads, -1).to(y.dtype)).reshape(y.shape)
        for weight, gamma in ((alpha, attention.lf_gamma), (beta, attention.hf_gamma))
    )
    return blend_inversion(y, v.to(y.dtype), low, high)


def scale_tokens(freq_scale: FreqScale, x: Tensor, hw: tuple[int, int]) -> Tensor:
    """Return ``x + FreqScale(x)`` for tokens.

    Args:
        freq_scale: The layer.
        x: Tokens (B, N, C), row by row; N - H * W leading ones (class tokens) stand for no place and pass unchanged.
        hw: H and W of the grid.

    Returns:
        Tensor of the shape and dtype of ``x``.

    Raises:
        ValueError: Where there are fewer tokens than places.
    """
    height, width = hw
    extra = x.shape[1] - height * width
    if extra < 0:
        raise ValueError(f"{x.shape[1]} tokens cannot fill a grid of {height} x {width}")
    grid = x[:, extra:].transpose(1, 2).unflatten(2, (height, width))
    scaled = freq_scale(grid, residual=True).flatten(2).transpose(1, 2)
    return torch.cat((x[:, :extra], scaled), dim=1) if extra else scaled


def add_fdam(
    block: nn.Module,
    dim: int,
    num_heads: int,
    *,
    attention: str = "attn",
    branches: Sequence[str] = ("attn", "mlp"),
    qkv: str = "qkv",
    proj: str = "proj",
    hw: str | tuple[str, str] | None = None,
    att_inv: bool = True,
    freq_scale: bool = True,
) -> nn.Module:
    """Add FDAM to a transformer block in place, and return it.

    The attention must call ``qkv`` and ``proj`` as modules: what enters ``qkv`` is AttInv's input, the last ``dim``
    channels that leave it are the values, and what enters ``proj`` is replaced by its mixture with the inversion.
    FreqScale follows each branch, tokens or maps: what those in ``branches`` return becomes ``a + freq_scale(a)``.
    So a branch must return the residual branch alone, without the shortcut.

    Args:
        block: The block. It gets ``freq_scale_1``, ``freq_scale_2``; its attention gets ``dy_freq`` and the rest.
        dim: Channels C, a multiple of 16 for FreqScale.
        num_heads: Attention heads; divides ``dim``.
        attention: Path in ``block`` to the module that holds ``qkv`` and ``proj``.
        branches: Paths in ``block`` to the modules whose outputs are the residual branches, in running order.
        qkv: Path in the attention to the layer that makes the values, alone or last: q, k, v or k, v.
        proj: Path in the attention to the output projection.
        hw: How the first branch's ``forward`` gets the token grid: the name of its argument that holds (H, W), or
            the names of two. None for branches that return maps (B, C, H, W), or tokens of a square grid with at most
            one class token.
        att_inv: Add AttInv.
        freq_scale: Add FreqScale.

    Raises:
        ValueError: Where a path leads nowhere, an argument named by ``hw`` does not exist, the block has FDAM already,
            or 16 or ``num_heads`` does not divide ``dim``.
    """
    if att_inv:
        module = _submodule(block, attention)
        value_layer, projection = _submodule(module, qkv), _submodule(module, proj)
    found = [_submodule(block, path) for path in branches] if freq_scale else []
    if freq_scale and hasattr(block, "freq_scale_1"):
        raise ValueError(f"{type(block).__name__} has FreqScale already")
    if found and hw is not None:
        arguments = inspect.signature(found[0].forward).parameters
        unknown = [name for name in ([hw] if isinstance(hw, str) else hw) if name not in arguments]
        if unknown:
            raise ValueError(f"{branches[0]!r} takes no argument {unknown[0]!r}; it takes {', '.join(arguments)}")
    if att_inv:
        give_att_inv(module, dim, num_heads)
        hook = _Inversion(module, dim)
        value_layer.register_forward_hook(hook.keep)
        projection.register_forward_pre_hook(hook.mix)
        module.register_forward_hook(hook.check)
    grid = _Grid(hw)
    for number, branch in enumerate(found, start=1):
        layer = FreqScale(dim)
        setattr(block, f"freq_scale_{number}", layer)
        if number == 1:
            branch.register_forward_pre_hook(grid.read, with_kwargs=True)
        branch.register_forward_hook(_Scaling(layer, grid))
    return block


# The hooks are methods of plain objects, not closures: a deep copy of the model copies them with it.


class _Inversion:
    """Takes input and values where they pass, and mixes before the projection."""

    def __init__(self, attention: nn.Module, dim: int) -> None:
        self.attention, self.dim = attention, dim
        self.kept: tuple[Tensor, Tensor] | None = None

    def keep(self, _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.kept = inputs[0], output[..., -self.dim :]

    def mix(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if self.kept is None:
            raise RuntimeError(f"{type(self.attention).__name__} called its projection before its values; see add_fdam")
        (x, v), self.kept = self.kept, None
        return (invert(self.attention, x, inputs[0], v), *inputs[1:])

    def check(self, *_: Any) -> None:
        if self.kept is not None:
            self.kept = None
            raise RuntimeError(f"{type(self.attention).__name__} did not call its projection as a module; see add_fdam")


class _Grid:
    """The token grid of the current call, read from the arguments of the first branch's ``forward``."""

    def __init__(self, names: str | tuple[str, str] | None) -> None:
        self.names = names
        self.hw: tuple[int, int] | None = None

    def read(self, branch: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.names is None:
            return
        given = inspect.signature(branch.forward).bind(*args, **kwargs).arguments
        pair = given[self.names] if isinstance(self.names, str) else [given[name] for name in self.names]
        height, width = pair
        self.hw = int(height), int(width)

    def of(self, tokens: Tensor) -> tuple[int, int]:
        if self.names is not None and self.hw is not None:
            return self.hw
        count = tokens.shape[1]
        side = math.isqrt(count)
        if count - side * side > 1:
            raise ValueError(f"{count} tokens are no square grid; name by 'hw' where the block gets its size")
        return side, side


class _Scaling:
    """Adds FreqScale to what a branch returns."""

    def __init__(self, layer: FreqScale, grid: _Grid) -> None:
        self.layer, self.grid = layer, grid

    def __call__(self, _: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        if output.dim() == 4:
            return self.layer(output, residual=True)
        return scale_tokens(self.layer, output, self.grid.of(output))


def _submodule(module: nn.Module, path: str) -> nn.Module:
    try:
        return module.get_submodule(path)
    except AttributeError:
        names = ", ".join(name for name, _ in module.named_children()) or "no modules"
        raise ValueError(f"{type(module).__name__} has no module {path!r}; it has {names}") from None
