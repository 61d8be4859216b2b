"""Channels last and the usual layout: the same numbers from backbones and detectors, in inference and training."""

from __future__ import annotations

import copy
import inspect

import numpy as np
import pytest
import torch
from mmdet.apis import set_random_seed
from small_detectors import DETECTORS, METAS, images_of, small_detector

from fdam_rotate.models.backbones import LSKNet, LSKNetFDAM
from fdam_rotate.models.layers.layout import fast_layout

SMALL = dict(embed_dims=(16, 32, 80, 64), depths=(1, 1, 1, 1))


def is_channels_last(x):
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def backbone(kind, channels_last):
    torch.manual_seed(0)
    model = kind(**SMALL, layer_scale=1.0, channels_last=channels_last)
    for name, parameter in model.named_parameters():
        if name.endswith("gamma") or "complex_weights" in name or "dy_freq" in name:
            torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(1))
    return model


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", [LSKNet, LSKNetFDAM])
def test_backbones_give_the_same_features_and_gradients(kind, training):
    images = torch.randn(2, 3, 96, 70, generator=torch.Generator().manual_seed(2))
    found = []
    for channels_last in (False, True):
        model = backbone(kind, channels_last).train(training)
        x = images.clone().requires_grad_()
        outs = model(x)
        assert [is_channels_last(out) for out in outs] == [channels_last] * 4
        weights = [torch.randn(out.shape, generator=torch.Generator().manual_seed(3)) for out in outs]
        sum((out * weight).mean() for out, weight in zip(outs, weights, strict=True)).backward()
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        assert all(parameter.is_contiguous() for parameter in model.parameters())
        found.append((outs, {"image": x.grad, **gradients}, model.state_dict()))
    for a, b in zip(found[0][0], found[1][0], strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-4 * a.abs().max().item())
    for name, a in found[0][1].items():
        assert torch.allclose(a, found[1][1][name], rtol=1e-3, atol=1e-3 * a.abs().max().item() + 1e-7), name
    assert list(found[0][2]) == list(found[1][2])
    for name, a in found[0][2].items():
        assert torch.allclose(a, found[1][2][name], atol=1e-4), name


def test_the_fast_layout_is_taken_by_itself():
    x = torch.zeros(1, 3, 64, 64)
    model = backbone(LSKNetFDAM, None).eval()
    with torch.no_grad():
        assert all(map(is_channels_last, model(x)))
        assert not any(map(is_channels_last, model.double()(x.double())))
    assert fast_layout(x.bfloat16()) == torch.channels_last
    assert fast_layout(x.to("meta")) == torch.contiguous_format


def test_the_usual_layout_where_there_is_no_onednn_and_while_tracing(monkeypatch):
    x = torch.zeros(1, 3, 64, 64)
    seen = []

    def look(x):
        seen.append(fast_layout(x))
        return x

    torch.jit.trace(look, x, check_trace=False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    look(x)
    assert seen == [torch.contiguous_format] * 2


def test_both_backbones_take_the_argument():
    for kind in (LSKNet, LSKNetFDAM):
        assert inspect.signature(kind).parameters["channels_last"].default is None
        assert kind(**SMALL, channels_last=True).channels_last is True


@pytest.mark.parametrize("name", DETECTORS)
def test_detectors_give_the_same_losses_gradients_and_detections(name):
    model = small_detector(name)
    images, metas = images_of(2), METAS
    boxes = [torch.tensor([[60.0, 60, 50, 24, 0.5], [30, 90, 20, 30, -0.3]]), torch.tensor([[70.0, 40, 60, 30, -0.9]])]
    labels = [torch.tensor([1, 3]), torch.tensor([2])]
    found = []
    for channels_last in (False, None):
        copied = copy.deepcopy(model)
        copied.backbone.channels_last = channels_last
        set_random_seed(0)
        copied.train()
        losses = copied.forward_train(images, metas, boxes, labels)
        loss, values = copied._parse_losses(losses)
        loss.backward()
        gradients = {name: p.grad for name, p in copied.named_parameters() if p.grad is not None}
        copied.eval()
        with torch.no_grad():
            features = copied.extract_feat(images[:1])
            results = copied.simple_test(images[:1], metas[:1])
        found.append((values, gradients, features, results))
    (values, gradients, features, results), other = found
    for key, value in values.items():
        assert other[0][key] == pytest.approx(value, rel=1e-3, abs=1e-5), key
    assert gradients.keys() == other[1].keys()
    for key, gradient in gradients.items():
        difference = (other[1][key] - gradient).norm()
        assert difference <= 0.01 * gradient.norm() + 1e-5, key  # of a bias before a BatchNorm it is rounding alone
    for a, b in zip(features, other[2], strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-3 * a.abs().max().item())
    for a, b in zip(results[0], other[3][0], strict=True):
        assert abs(len(a) - len(b)) <= max(2, len(a) // 50)  # of boxes that lie at a threshold
        same = [(np.abs(b - row).max(axis=1) < 0.05).any() for row in a] if len(b) else []
        assert sum(same) >= 0.95 * len(a) - 2
