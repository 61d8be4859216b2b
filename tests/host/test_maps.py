"""mmcv's operations on maps: channels last and 16 bits give what the usual layout in float32 gives."""

from __future__ import annotations

import pytest
import torch
from mmcv.ops import (
    PSAMask,
    deform_conv2d,
    modulated_deform_conv2d,
    roi_align,
    roi_align_rotated,
    rotated_feature_align,
)

import fdam_rotate.models  # noqa: F401
from fdam_rotate.host import maps

ROIS = torch.tensor([[0, 9.0, 7, 12, 6, 0.4], [1, 4, 5, 8, 8, -1.1], [1, 12, 3, 30, 4, 1.5]])
UPRIGHT = torch.tensor([[0, 2.0, 3, 13, 11], [1, 0, 0, 7, 9]])
BOXES = torch.rand(2, 11, 14, 5, generator=torch.Generator().manual_seed(5)) * torch.tensor([14.0, 11, 9, 9, 1.5])


def numbers(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def deformed(x, dtype):
    return deform_conv2d(x, numbers(2, 18, 11, 14, seed=1).to(dtype), numbers(4, 9, 3, 3, seed=2), 1, 1)


def modulated(x, dtype):
    offset, mask = numbers(2, 18, 11, 14, seed=1).to(dtype), numbers(2, 9, 11, 14, seed=3).sigmoid().to(dtype)
    return modulated_deform_conv2d(x, offset, mask, numbers(4, 9, 3, 3, seed=2), numbers(4, seed=4), 1, 1)


OPERATIONS = {
    "deform_conv2d": deformed,
    "modulated_deform_conv2d": modulated,
    "psa_mask": lambda x, dtype: PSAMask("collect", (3, 3))(x),
    "roi_align": lambda x, dtype: roi_align(x, UPRIGHT, (4, 5), 0.9, 2),
    "roi_align_rotated": lambda x, dtype: roi_align_rotated(x, ROIS, (4, 5), 0.9, 2, True, True),
    "rotated_feature_align": lambda x, dtype: rotated_feature_align(x, BOXES, 1.0, 5),
}


def run(operation, x, layout, dtype):
    """The result, and the gradient of a sum of it whose weights come in the same layout."""
    x = x.to(dtype).clone(memory_format=layout).requires_grad_()
    y = operation(x, dtype)
    y.backward(numbers(*y.shape, seed=6).to(y.dtype).contiguous(memory_format=layout))
    return y.detach(), x.grad


@pytest.mark.parametrize("name", OPERATIONS)
def test_channels_last_gives_what_the_usual_layout_gives(name):
    x = numbers(2, 9, 11, 14, seed=0)
    y, gradient = run(OPERATIONS[name], x, torch.contiguous_format, torch.float32)
    assert y.abs().max() > 0.1
    assert gradient.abs().max() > 0.1
    y_last, gradient_last = run(OPERATIONS[name], x, torch.channels_last, torch.float32)
    assert torch.equal(y_last, y)
    assert torch.equal(gradient_last, gradient)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", OPERATIONS)
def test_16_bits_are_computed_in_float32(name, layout, kind):
    x = numbers(2, 9, 11, 14, seed=0).to(kind).float()  # the same numbers in both
    y, gradient = run(OPERATIONS[name], x, torch.contiguous_format, torch.float32)
    short, short_gradient = run(OPERATIONS[name], x, layout, kind)
    assert short.dtype == short_gradient.dtype == kind
    # offsets, masks and the gradient that comes in are rounded to 8 bits
    assert (short - y).abs().max() <= 0.03 * y.abs().max()
    assert (short_gradient - gradient).abs().max() <= 0.03 * gradient.abs().max()


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_on_no_device_maps_and_boxes_are_of_two_kinds(kind):
    """mmcv's CUDA code reads boxes in the type of the maps, and stops where they are of another."""
    seen = []

    def run(ctx, x, rois):
        seen.append((x.dtype, rois.dtype))
        return x

    away = torch.empty(2, 3, 8, 8, dtype=kind, device="meta")  # which is not the CPU
    assert maps._with_plain_maps(run)(None, away, torch.empty(5, 6, device="meta")).dtype == kind
    assert seen == [(torch.float32, torch.float32)]


def test_it_is_put_in_place_once():
    before = [(function.forward, function.backward) for function in maps._FUNCTIONS]
    maps.read_any_map()
    assert [(function.forward, function.backward) for function in maps._FUNCTIONS] == before
