"""mmcv's operations on maps, made to read maps of any layout and of 16 bits.

mmcv 1.7.2's C++ walks through the memory of a map as if the channels lay one after the other, and does not look whether
they do: with channels last it makes wrong numbers without a word (deformable convolution stops instead). And it knows
no bfloat16, nor on the CPU float16; on a GPU it takes maps of float16 only with boxes of float16, which could not say
where in a large image they lie. So autocast ends in an error. Here its functions get what they can read, all in float32
and in the usual layout, and their result has the dtype of the maps.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from mmcv.ops.deform_conv import DeformConv2dFunction
from mmcv.ops.modulated_deform_conv import ModulatedDeformConv2dFunction
from mmcv.ops.psa_mask import PSAMaskFunction
from mmcv.ops.roi_align import RoIAlignFunction
from mmcv.ops.roi_align_rotated import RoIAlignRotatedFunction
from mmcv.ops.rotated_feature_align import RotatedFeatureAlignFunction
from torch import Tensor

__all__ = ["read_any_map"]

#: All functions of mmcv that take maps and have a C++ kernel for the CPU.
_FUNCTIONS = (
    DeformConv2dFunction,
    ModulatedDeformConv2dFunction,
    PSAMaskFunction,
    RoIAlignFunction,
    RoIAlignRotatedFunction,
    RotatedFeatureAlignFunction,
)


def read_any_map() -> None:
    """Put the replacements in place; a second call changes nothing."""
    for function in _FUNCTIONS:
        if not hasattr(function.forward, "__wrapped__"):
            function.forward = staticmethod(_with_plain_maps(function.forward))
            function.backward = staticmethod(_with_plain_maps(function.backward))


def _with_plain_maps(run: Callable[..., Any]) -> Callable[..., Any]:
    """``run(ctx, *arguments)``, forward or backward of an autograd function, with tensors that mmcv's C++ can read."""

    @functools.wraps(run)
    def plain(ctx: Any, *arguments: Any, **settings: Any) -> Any:
        result = run(ctx, *map(_plain, arguments), **settings)
        # Of gradients, which come as a tuple, autograd sees to the dtype itself.
        return result.to(arguments[0].dtype) if isinstance(result, Tensor) else result

    return plain


def _plain(argument: Any) -> Any:
    if not isinstance(argument, Tensor):
        return argument
    short = argument.dtype in (torch.bfloat16, torch.float16)
    return (argument.float() if short else argument).contiguous()
