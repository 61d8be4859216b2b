"""LSKNetFDAM: LSKNet exactly where FDAM is silent, its formula where it speaks, and a small start that lasts."""

import math

import pytest
import torch
from fdam_formula import assert_gradients, assert_small_start, is_new, silence, strengthen
from lsk_formula import lsknet_by_formula
from mmcv.runner import BaseModule
from mmrotate.models import build_backbone
from scripts import ROOT
from torch import nn

from fdam_rotate.models.backbones import LSKNet, LSKNetFDAM
from fdam_rotate.models.layers import FreqScale

DATA = ROOT / "tests" / "data"
SMALL = dict(embed_dims=(32, 32, 48, 64), mlp_ratios=(2, 2, 1, 1), depths=(2, 1, 1, 1))
HEADS = (1, 2, 3, 4)


def small(**settings):
    torch.manual_seed(0)
    return LSKNetFDAM(num_heads=HEADS, **SMALL, **settings)


def test_new_keys():
    model, plain = LSKNetFDAM(), LSKNet()
    keys = {key: "x".join(map(str, value.shape)) or "-" for key, value in model.state_dict().items()}
    new = {key: shape for key, shape in keys.items() if key not in plain.state_dict()}
    assert new == dict(line.split() for line in (DATA / "lsknet_fdam_s_new_keys.txt").read_text().splitlines())
    result = model.load_state_dict(plain.state_dict(), strict=False)
    assert set(result.missing_keys) == set(new)
    assert not result.unexpected_keys
    assert all(is_new(key) for key in new)


def test_tiny_with_the_default_heads():
    model = build_backbone(dict(type="LSKNetFDAM", embed_dims=[32, 64, 160, 256], depths=[3, 3, 5, 2]))
    assert [getattr(model, f"block{i}")[0].attn.dy_freq.out_channels for i in (1, 2, 3, 4)] == [1, 2, 5, 8]
    assert [out.shape[1:] for out in model.eval()(torch.randn(1, 3, 32, 32))] == [
        (32, 8, 8),
        (64, 4, 4),
        (160, 2, 2),
        (256, 1, 1),
    ]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("size", [(32, 64), (47, 33)])
def test_silent_fdam_is_lsknet_exactly(training, size):
    plain = LSKNet(**SMALL)
    model = silence(strengthen(small()))
    model.load_state_dict(plain.state_dict(), strict=False)
    plain.train(training)
    model.train(training)
    x = torch.randn(2, 3, *size)
    for a, b in zip(plain(x), model(x), strict=True):
        assert torch.equal(a, b)
    with torch.no_grad():
        for a, b in zip(plain(x), model(x), strict=True):
            assert torch.equal(a, b)


def test_start_differs_by_about_1e_5():
    plain, model = LSKNet(**SMALL).eval(), small().eval()
    model.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(1, 3, 64, 64)
    for a, b in zip(plain(x), model(x), strict=True):
        assert 0 < (a - b).abs().max() < 1e-3 * a.abs().max()


@pytest.mark.parametrize("size", [(64, 64), (33, 47)])
def test_equals_the_formula(size):
    model = strengthen(small().double()).eval()
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    silent = lsknet_by_formula(silence(strengthen(small().double())).state_dict(), x, SMALL["depths"], HEADS)
    outs = model(x)
    expected = lsknet_by_formula(model.state_dict(), x, SMALL["depths"], HEADS)
    for stage, (out, wanted, without) in enumerate(zip(outs, expected, silent, strict=True)):
        assert out.shape[2:] == tuple(math.ceil(n / (4 * 2**stage)) for n in size)
        assert torch.allclose(out, wanted, rtol=1e-9, atol=1e-9)
        assert not torch.allclose(out, without, atol=1e-3)


@pytest.mark.parametrize(
    ("switches", "present"),
    [
        (dict(att_inv=True, freq_scale=False), {"attn"}),
        (dict(att_inv=False, freq_scale=True), {"freq_scale_1", "freq_scale_2"}),
        (dict(att_inv=False, freq_scale=False), set()),
    ],
)
def test_switches(switches, present):
    model = strengthen(small(**switches).double()).eval()
    assert {key.split(".")[2] for key in model.state_dict() if is_new(key)} == present
    x = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    heads = HEADS if switches["att_inv"] else None
    for out, expected in zip(model(x), lsknet_by_formula(model.state_dict(), x, SMALL["depths"], heads), strict=True):
        assert torch.allclose(out, expected, rtol=1e-9, atol=1e-9)


def test_gradients_reach_every_new_parameter():
    model = small(drop_rate=0.1, drop_path_rate=0.1).train()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("gamma", "complex_weights")):
                parameter.normal_()
    sum((out * torch.randn_like(out)).sum() for out in model(torch.randn(2, 3, 64, 64))).backward()
    assert_gradients(model, only_new=True)


def test_gradients_at_the_start():
    # The near-zero start must not cut the gradient off, neither to the filters nor to what steers them.
    model = small().train()
    sum((out * torch.randn_like(out)).sum() for out in model(torch.randn(2, 3, 64, 64))).backward()
    assert_gradients(model, only_new=True)


def test_frozen_stages_freeze_fdam_too():
    model = small(frozen_stages=2).train()
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (name.split(".")[0][-1] in "34"), name


class Detector(BaseModule):
    """A parent whose ``init_cfg`` rewrites every convolution and linear layer, as a detector's may."""

    def __init__(self, backbone):
        super().__init__(init_cfg=dict(type="Xavier", layer=["Conv2d", "Linear"], gain=50.0, bias=3.0))
        self.backbone = backbone


def assert_all_small(model):
    assert_small_start(model)
    for name, module in model.named_modules():
        if name.endswith(("dy_freq", "dy_freq_2")):
            bound = 1 / math.sqrt(module.in_channels)
            assert 0 < module.weight.abs().max() <= bound, name
            assert module.bias.abs().max() <= bound, name
        elif isinstance(module, FreqScale):
            assert 0 < module.reweight.fc1.weight.abs().max() <= 1 / math.sqrt(module.dim), name


@pytest.mark.parametrize("init_cfg", [None, dict(type="Xavier", layer=["Conv2d", "Linear"], gain=40.0, bias=2.0)])
def test_small_start_survives_parents(init_cfg):
    model = small(init_cfg=init_cfg)
    assert_all_small(model)
    Detector(model).init_weights()
    assert_all_small(model)
    # the backbone's own init_cfg does apply to the rest
    assert (model.patch_embed1.proj.bias == (2.0 if init_cfg else 0.0)).all()


def test_small_start_survives_a_pretrained_lsknet(tmp_path):
    plain = LSKNet(**SMALL)
    with torch.no_grad():
        for value in plain.parameters():
            value.normal_()
    torch.save(plain.state_dict(), tmp_path / "lsk.pth")
    model = small(init_cfg=dict(type="Pretrained", checkpoint=str(tmp_path / "lsk.pth")))
    Detector(model).init_weights()
    assert_all_small(model)
    for key, value in plain.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key


def test_a_pretrained_lsknet_fdam_is_kept(tmp_path):
    source = strengthen(small())
    torch.save(source.state_dict(), tmp_path / "fdam.pth")
    model = small(init_cfg=dict(type="Pretrained", checkpoint=str(tmp_path / "fdam.pth")))
    Detector(model).init_weights()
    for key, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key


def test_bad_settings():
    with pytest.raises(ValueError, match="num_heads must have 4 entries, one for each stage, got"):
        LSKNetFDAM(num_heads=(1, 2, 5), **SMALL)
    with pytest.raises(ValueError, match="num_heads must divide the stage's channels, got 5 heads for 48 channels"):
        LSKNetFDAM(num_heads=(1, 2, 5, 8), **SMALL)
    with pytest.raises(ValueError, match="group must divide dim, got dim=24 and group=16"):
        LSKNetFDAM(embed_dims=(24, 32, 64, 64), num_heads=(1, 1, 1, 1))
    LSKNetFDAM(embed_dims=(24, 32, 64, 64), num_heads=(1, 1, 1, 1), depths=(1, 1, 1, 1), freq_scale=False)
    with pytest.raises(TypeError, match=r"LSKNetFDAM.*unexpected keyword argument 'attinv'"):
        build_backbone(dict(type="LSKNetFDAM", attinv=True))


def test_other_settings_reach_lsknet():
    norm_cfg = dict(type="GN", num_groups=4)
    model = small(in_channels=4, out_indices=(1,), norm_eval=True, drop_rate=0.2, drop_path_rate=0.3, norm_cfg=norm_cfg)
    assert len(model.eval()(torch.randn(1, 4, 32, 32))) == 1
    assert isinstance(model.block1[0].norm1, nn.GroupNorm)
    assert (model.norm_eval, model.block1[0].mlp.drop.p) == (True, 0.2)
    assert model.block4[0].drop_path.drop_prob == pytest.approx(0.3)
