"""FDAMFPN: mmdet's FPN exactly where FreqScale is silent, and FreqScale where it is asked for."""

import pytest
import torch
from fdam_formula import assert_gradients, freq_scale_by_formula, silence
from mmcv.runner import BaseModule
from mmdet.models.necks import FPN
from mmrotate.models import build_neck
from torch import nn
from torch.nn import functional as F

from fdam_rotate.models.layers import FreqScale
from fdam_rotate.models.necks import FDAMFPN

CHANNELS = [4, 6, 8]
KEYS = {"complex_weights", "reweight.fc1.weight", "reweight.act.scale", "reweight.act.bias", "reweight.fc2.weight"}
SIZES = [(13, 18), (7, 9), (4, 5)]


def maps(dtype=torch.float32):
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(2, c, *size, generator=generator).to(dtype) for c, size in zip(CHANNELS, SIZES, strict=True)]


def neck(num_outs=5, dtype=torch.float32, strong=True, **settings):
    torch.manual_seed(0)
    model = FDAMFPN(CHANNELS, 32, num_outs, **settings).to(dtype)
    if strong:
        with torch.no_grad():
            for layer in model.freq_scale:
                if isinstance(layer, FreqScale):
                    layer.complex_weights.normal_()
    return model


@pytest.mark.parametrize("place", ["lateral", "fused", "output"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        dict(add_extra_convs="on_input"),
        dict(add_extra_convs="on_output", relu_before_extra_convs=True),
        dict(add_extra_convs="on_lateral"),
        dict(add_extra_convs=True, start_level=1, num_outs=4),
        dict(end_level=1, num_outs=2),
        dict(upsample_cfg=dict(mode="bilinear", align_corners=False), norm_cfg=dict(type="GN", num_groups=4)),
        dict(no_norm_on_lateral=True, norm_cfg=dict(type="GN", num_groups=4), act_cfg=dict(type="ReLU")),
        dict(num_outs=3),
    ],
    ids=str,
)
def test_silent_it_is_mmdets_fpn(place, settings):
    settings = {"num_outs": 5, **settings}
    model, plain = silence(neck(**settings, freq_place=place)), FPN(CHANNELS, 32, **settings)
    result = model.load_state_dict(plain.state_dict(), strict=False)
    assert not result.unexpected_keys
    used = range(settings.get("end_level", 2) - settings.get("start_level", 0) + 1)
    assert set(result.missing_keys) == {f"freq_scale.{i}.{key}" for i in used for key in KEYS}
    for a, b in zip(model(maps()), plain(maps()), strict=True):
        assert torch.equal(a, b)


def test_upsampling_by_a_factor():
    inputs = [torch.randn(1, c, n, n) for c, n in zip(CHANNELS, (16, 8, 4), strict=True)]
    settings = dict(num_outs=3, upsample_cfg=dict(scale_factor=2, mode="nearest"))
    model, plain = silence(neck(**settings)), FPN(CHANNELS, 32, **settings)
    model.load_state_dict(plain.state_dict(), strict=False)
    for a, b in zip(model(inputs), plain(inputs), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("place", ["lateral", "fused", "output"])
@pytest.mark.parametrize("levels", [None, (0, 2), (1,), ()])
def test_equals_the_formula(place, levels):
    model = neck(dtype=torch.float64, freq_place=place, freq_levels=levels)

    def scaled(here, values):
        if here != place:
            return values
        chosen = range(3) if levels is None else levels
        return [freq_scale_by_formula(model.freq_scale[i], x) if i in chosen else x for i, x in enumerate(values)]

    x = scaled("lateral", [conv(x) for conv, x in zip(model.lateral_convs, maps(torch.float64), strict=True)])
    for i in (1, 0):
        x[i] = x[i] + F.interpolate(x[i + 1], SIZES[i], mode="nearest")
    x = scaled("fused", x)
    x = scaled("output", [conv(x) for conv, x in zip(model.fpn_convs, x, strict=True)])
    x += [x[2][..., ::2, ::2], x[2][..., ::2, ::2][..., ::2, ::2]]
    outs = model(maps(torch.float64))
    assert isinstance(outs, tuple)
    for out, expected in zip(outs, x, strict=True):
        assert torch.allclose(out, expected, rtol=1e-9, atol=1e-9)


def test_keys_name_the_level():
    model = neck(freq_levels=(2,))
    assert {key for key in model.state_dict() if "freq_scale" in key} == {f"freq_scale.2.{key}" for key in KEYS}


def test_gradients():
    model = neck()
    sum((out * torch.randn_like(out)).sum() for out in model(maps())).backward()
    assert_gradients(model)


class Detector(BaseModule):
    def __init__(self, part):
        super().__init__(init_cfg=dict(type="Xavier", layer=["Conv2d", "Linear"], gain=50.0))
        self.neck = part


@pytest.mark.parametrize("init_cfg", [None, dict(type="Constant", layer=["Conv2d", "Linear"], val=5.0)])
def test_small_start_survives_initialisation(init_cfg):
    model = neck(strong=False, init_cfg=init_cfg)
    Detector(model).init_weights()
    for layer in model.freq_scale:
        assert 0 < layer.complex_weights.abs().max() < 1e-4
        assert 0 < layer.reweight.fc1.weight.abs().max() <= 32**-0.5
    weight = model.lateral_convs[0].conv.weight
    assert (weight == 5).all() if init_cfg else weight.abs().max() <= (6 / (4 + 32)) ** 0.5 + 1e-6
    if init_cfg is None:
        plain = FPN(CHANNELS, 32, 5)
        plain.load_state_dict({key: value for key, value in model.state_dict().items() if "freq_scale" not in key})
        for a, b in zip(model(maps()), plain(maps()), strict=True):
            assert 0 < (a - b).abs().max() < 1e-3 * b.abs().max()


def test_small_start_survives_a_pretrained_fpn(tmp_path):
    plain = FPN(CHANNELS, 32, 5)
    torch.save(plain.state_dict(), tmp_path / "fpn.pth")
    model = neck(strong=False, init_cfg=dict(type="Pretrained", checkpoint=str(tmp_path / "fpn.pth")))
    Detector(model).init_weights()
    assert all(layer.reweight.fc2.weight.abs().max() <= 2**-0.5 for layer in model.freq_scale)
    assert torch.equal(model.fpn_convs[1].conv.weight, plain.fpn_convs[1].conv.weight)


def test_bad_settings():
    with pytest.raises(ValueError, match="freq_place must be one of lateral, fused, output, got 'before'"):
        FDAMFPN(CHANNELS, 32, 5, freq_place="before")
    with pytest.raises(ValueError, match=r"freq_levels must be some of 0 to 1, got \(0, 2\)"):
        FDAMFPN(CHANNELS, 32, 4, start_level=1, freq_levels=(0, 2))
    with pytest.raises(ValueError, match="group must divide dim, got dim=40"):
        FDAMFPN(CHANNELS, 40, 5)
    with pytest.raises(ValueError, match="expected 3 feature maps, got 2"):
        neck()(maps()[:2])
    with pytest.raises(TypeError, match=r"FDAMFPN.*unexpected keyword argument 'levels'"):
        build_neck(dict(type="FDAMFPN", in_channels=CHANNELS, out_channels=32, num_outs=5, levels=(0,)))


def test_built_through_the_registry():
    model = build_neck(dict(type="FDAMFPN", in_channels=CHANNELS, out_channels=32, num_outs=5, freq_levels=[0]))
    assert isinstance(model.freq_scale[1], nn.Identity)
    assert [tuple(out.shape) for out in model(maps())] == [(2, 32, *s) for s in [*SIZES, (2, 3), (1, 2)]]
