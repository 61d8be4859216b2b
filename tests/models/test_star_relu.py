"""StarReLU: its formula, its parameters' names, and their start."""

import torch

from fdam_rotate.models.layers import StarReLU


def test_values_by_hand():
    layer = StarReLU(scale_value=2.0, bias_value=-1.0)
    # 2 * relu(x)^2 - 1
    assert layer(torch.tensor([-3.0, 0.0, 0.5, 2.0])).tolist() == [-1.0, -1.0, -0.5, 7.0]


def test_parameters_and_their_start():
    layer = StarReLU()
    assert {name: value.tolist() for name, value in layer.state_dict().items()} == {"scale": [1.0], "bias": [0.0]}
    with torch.no_grad():
        layer.scale.fill_(5)
    layer.reset_parameters()
    assert layer.scale.item() == 1.0


def test_gradients_reach_both():
    layer = StarReLU()
    layer(torch.tensor([-1.0, 3.0])).sum().backward()
    # d/dscale = sum of relu(x)^2, d/dbias = number of elements
    assert (layer.scale.grad.item(), layer.bias.grad.item()) == (9.0, 2.0)
