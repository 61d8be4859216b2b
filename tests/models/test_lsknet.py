"""LSKNet: keys and arithmetic as published, mmdet's backbone settings, initialisation."""

import math

import pytest
import torch
from lsk_formula import lsknet_by_formula
from mmcv.runner import BaseModule
from mmrotate.models import build_backbone
from scripts import ROOT
from torch import nn

from fdam_rotate.models.backbones import LSKNet

DATA = ROOT / "tests" / "data"
SMALL = dict(embed_dims=(4, 8, 12, 16), mlp_ratios=(2, 2, 1, 1), depths=(2, 1, 1, 1))
T = dict(embed_dims=[32, 64, 160, 256], depths=[3, 3, 5, 2])


def stored_keys(name):
    return dict(line.split() for line in (DATA / name).read_text().splitlines())


def keys_of(module):
    return {key: "x".join(map(str, value.shape)) or "-" for key, value in module.state_dict().items()}


def shaken(module, seed=0):
    """Give every weight and statistic a value of its own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, value in module.state_dict().items():
            if key.endswith("running_var"):
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
            elif value.is_floating_point():
                value.add_(0.3 * torch.randn(value.shape, generator=generator))
    return module


def test_keys_are_the_published_ones():
    assert keys_of(LSKNet()) == stored_keys("lsknet_s_keys.txt")


@pytest.mark.parametrize(("settings", "millions"), [(T, "4.0"), ({}, "13.8")])
def test_number_of_parameters(settings, millions):
    model = build_backbone(dict(type="LSKNet", **settings))
    assert f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f}" == millions


def test_the_forks_config_builds():
    model = build_backbone(
        dict(
            type="LSKNet",
            embed_dims=[32, 64, 160, 256],
            drop_rate=0.1,
            drop_path_rate=0.1,
            depths=[3, 3, 5, 2],
            norm_cfg=dict(type="SyncBN", requires_grad=True),
            init_cfg=dict(type="Pretrained", checkpoint="lsk_t_backbone.pth"),
        )
    )
    rates = [block.drop_path.drop_prob for i in range(4) for block in getattr(model, f"block{i + 1}")]
    assert rates == pytest.approx([0.1 * i / 12 for i in range(13)], abs=1e-6)
    assert isinstance(model.block1[0].norm1, nn.SyncBatchNorm)
    assert model.block1[0].mlp.drop.p == 0.1


@pytest.mark.parametrize("size", [(64, 64), (33, 47)])
def test_equals_the_formula(size):
    model = shaken(LSKNet(**SMALL).double()).eval()
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    outs, formula = model(x), lsknet_by_formula(model.state_dict(), x, (2, 1, 1, 1))
    assert isinstance(outs, tuple)
    for stage, (out, expected) in enumerate(zip(outs, formula, strict=True)):
        stride = 4 * 2**stage
        assert out.shape == (2, SMALL["embed_dims"][stage], math.ceil(size[0] / stride), math.ceil(size[1] / stride))
        assert torch.allclose(out, expected, rtol=1e-9, atol=1e-9)


def test_out_indices():
    torch.manual_seed(0)
    model = LSKNet(**SMALL).eval()
    chosen = LSKNet(**SMALL, out_indices=(0, 2)).eval()
    chosen.load_state_dict(model.state_dict())
    x = torch.randn(1, 3, 64, 64)
    everything, some = model(x), chosen(x)
    assert len(some) == 2
    assert torch.equal(some[0], everything[0])
    assert torch.equal(some[1], everything[2])
    assert (chosen.out_channels, chosen.out_strides) == ((4, 12), (4, 16))
    assert (model.out_channels, model.out_strides) == ((4, 8, 12, 16), (4, 8, 16, 32))


@pytest.mark.parametrize("frozen_stages", [-1, 0, 1, 3, 4])
def test_frozen_stages_freeze(frozen_stages):
    torch.manual_seed(0)
    model = LSKNet(**SMALL, frozen_stages=frozen_stages)
    model.init_weights()
    model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    trained = [p for p in model.parameters() if p.requires_grad]
    if trained:
        optimizer = torch.optim.SGD(trained, lr=0.1)
        sum((out * torch.randn_like(out)).sum() for out in model(torch.randn(2, 3, 64, 64))).backward()
        optimizer.step()
    else:
        model(torch.randn(2, 3, 64, 64))
    frozen = tuple(f"{name}{i}." for i in range(1, frozen_stages + 1) for name in ("patch_embed", "block", "norm"))
    for key, value in model.state_dict().items():
        # A convolution's bias before a BatchNorm has no gradient, so only weights and statistics tell.
        if key.startswith(frozen or "none"):
            assert torch.equal(value, before[key]), key
        elif key.endswith(("weight", "running_mean")):
            assert not torch.equal(value, before[key]), key


def test_norm_eval():
    model = LSKNet(**SMALL, norm_eval=True)
    model.train()
    before = model.block1[0].norm1.running_mean.clone()
    model(torch.randn(2, 3, 64, 64))
    assert torch.equal(model.block1[0].norm1.running_mean, before)
    assert model.block1[0].mlp.training
    assert not model.eval().training


@pytest.mark.parametrize("frozen_stages", [-1, 1])
def test_checkpointing_equals_the_plain_forward(frozen_stages):
    torch.manual_seed(0)
    plain = LSKNet(**SMALL, norm_eval=True, frozen_stages=frozen_stages)
    saving = LSKNet(**SMALL, norm_eval=True, frozen_stages=frozen_stages, with_cp=True)
    saving.load_state_dict(plain.state_dict())
    grads = []
    x = torch.randn(2, 3, 64, 64)
    for model in (plain.train(), saving.train()):
        outs = model(x)
        sum(out.square().sum() for out in outs).backward()
        grads.append((outs, [p.grad for p in model.parameters()]))
    for a, b in zip(grads[0][0], grads[1][0], strict=True):
        assert torch.equal(a, b)
    for a, b in zip(grads[0][1], grads[1][1], strict=True):
        assert (a is None and b is None) or torch.equal(a, b)


def test_every_parameter_gets_a_gradient():
    torch.manual_seed(0)
    model = shaken(LSKNet(**SMALL, drop_rate=0.1, drop_path_rate=0.1)).train()
    sum((out * torch.randn_like(out)).sum() for out in model(torch.randn(2, 3, 64, 64))).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_dropout_and_drop_path_change_training():
    x = torch.randn(2, 3, 64, 64)
    for settings in (dict(drop_rate=0.5), dict(drop_path_rate=0.9)):
        model = LSKNet(**SMALL, norm_eval=True, **settings)
        assert not torch.equal(model.train()(x)[-1], model(x)[-1]), settings
        assert torch.equal(model.eval()(x)[-1], model(x)[-1])


class Detector(BaseModule):
    """A parent whose ``init_cfg`` rewrites every convolution, as a detector's may."""

    def __init__(self, backbone):
        super().__init__(init_cfg=dict(type="Xavier", layer="Conv2d", bias=3.0))
        self.backbone = backbone


def assert_start(model):
    conv = model.block1[0].mlp.dwconv.dwconv  # fan-out of a depthwise 3 x 3 is 9
    assert abs(conv.weight.std() / math.sqrt(2 / 9) - 1) < 0.1
    fc1 = model.block3[0].mlp.fc1
    assert abs(fc1.weight.std() / math.sqrt(2 / fc1.out_channels) - 1) < 0.1
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            assert (module.bias == 0).all()
    assert (model.block2[1].layer_scale_1 == 0.01).all()
    assert (model.norm1.weight == 1).all()
    assert (model.norm1.bias == 0).all()


def test_start_also_after_a_parents_initialisation():
    model = LSKNet(embed_dims=(32, 64, 160, 256), depths=(1, 2, 1, 1))
    assert_start(model)
    Detector(shaken(model)).init_weights()
    assert_start(model)


def test_pretrained_weights_stay(tmp_path):
    source = shaken(LSKNet(**SMALL))
    torch.save({"state_dict": source.state_dict()}, tmp_path / "lsk.pth")
    model = LSKNet(**SMALL, init_cfg=dict(type="Pretrained", checkpoint=str(tmp_path / "lsk.pth")))
    Detector(model).init_weights()
    for key, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key


def test_empty_lists_and_bad_settings():
    cases = {
        "depths must have 4 entries": dict(depths=(1, 1, 1)),
        "embed_dims must be positive and even, got": dict(embed_dims=(3, 8, 12, 16)),
        r"out_indices must be some of 0 to 3, got \(0, 4\)": dict(out_indices=(0, 4)),
        r"out_indices must be some of 0 to 3, got \(\)": dict(out_indices=()),
        "frozen_stages must be -1 to 4, got 5": dict(frozen_stages=5),
    }
    for message, settings in cases.items():
        with pytest.raises(ValueError, match=message):
            LSKNet(**{**SMALL, **settings})


def test_unknown_keyword_and_other_settings():
    with pytest.raises(TypeError, match=r"LSKNet.*unexpected keyword argument 'img_size'"):
        build_backbone(dict(type="LSKNet", img_size=224))
    model = LSKNet(**SMALL, in_channels=4, norm_cfg=dict(type="GN", num_groups=2))
    assert isinstance(model.block1[0].norm2, nn.GroupNorm)
    assert model(torch.randn(1, 4, 32, 32))[3].shape == (1, 16, 1, 1)
