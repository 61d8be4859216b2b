"""FreqFusionFPN: FPN's signature, keys and outputs, at any sizes, with FreqFusion's start kept."""

from __future__ import annotations

import pytest
import torch
from mmdet.models.necks import FPN
from mmrotate.models.builder import build_neck

from fdam_rotate.models.layers.freq_fusion import FreqFusion
from fdam_rotate.models.necks import FreqFusionFPN

CHANNELS = [4, 6, 8, 10]
EVEN = [(16, 12), (8, 6), (4, 3), (2, 2)]
ODD = [(17, 11), (9, 6), (5, 3), (3, 2)]
UNRELATED = [(16, 12), (7, 5), (3, 5), (1, 1)]


def pyramid(sizes, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, c, *size, generator=generator).to(dtype) for c, size in zip(CHANNELS, sizes, strict=True)]


def neck(**settings):
    torch.manual_seed(0)
    return FreqFusionFPN(CHANNELS, 8, **{"num_outs": 5, "compressed_channels": 16, **settings})


@pytest.mark.parametrize("sizes", [EVEN, ODD, UNRELATED])
def test_shapes(sizes):
    outs = neck()(pyramid(sizes))
    assert isinstance(outs, tuple)
    last = sizes[-1]
    assert [tuple(o.shape) for o in outs[:4]] == [(2, 8, *size) for size in sizes]
    assert outs[4].shape == (2, 8, -(-last[0] // 2), -(-last[1] // 2))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"start_level": 1, "num_outs": 5, "add_extra_convs": "on_input"},
        {"num_outs": 6, "add_extra_convs": "on_lateral"},
        {"num_outs": 6, "add_extra_convs": "on_output", "relu_before_extra_convs": True},
        {"end_level": 2, "num_outs": 3},
        {"norm_cfg": {"type": "BN"}, "no_norm_on_lateral": True, "act_cfg": {"type": "ReLU"}},
    ],
)
def test_outputs_other_than_the_fusion_are_those_of_fpn(settings, monkeypatch):
    """With fusion replaced by nearest upsampling the whole neck must equal mmdet's FPN."""

    def nearest(self, fine, coarse):
        return fine, torch.nn.functional.interpolate(coarse, fine.shape[-2:], mode="nearest")

    ours = neck(**settings)
    plain = FPN(CHANNELS, 8, **{"num_outs": 5, **settings})
    missing, unexpected = plain.load_state_dict(ours.state_dict(), strict=False)
    assert not missing
    assert {key.split(".")[0] for key in unexpected} == {"fusions"}
    monkeypatch.setattr(FreqFusion, "forward", nearest)
    for a, b in zip(ours(pyramid(ODD)), plain(pyramid(ODD)), strict=True):
        torch.testing.assert_close(a, b)


def test_the_fusion_is_used_from_coarse_to_fine():
    module = neck(num_outs=4)
    maps = [conv(x) for conv, x in zip(module.lateral_convs, pyramid(ODD), strict=True)]
    for i in (2, 1, 0):
        fine, coarse = module.fusions[i](maps[i], maps[i + 1])
        maps[i] = fine + coarse
    for conv, x, out in zip(module.fpn_convs, maps, module(pyramid(ODD)), strict=True):
        torch.testing.assert_close(conv(x), out)


@pytest.mark.parametrize("parent_xavier", [False, True])
def test_special_starts_survive_init_weights(parent_xavier):
    """FPN's Xavier rewrites every convolution; kernels and offsets must still start small."""
    settings = {"type": "FreqFusionFPN", "in_channels": CHANNELS, "out_channels": 8, "num_outs": 5}
    if parent_xavier:
        settings["init_cfg"] = [{"type": "Xavier", "layer": ["Conv2d", "Linear"], "distribution": "normal"}]
    module = build_neck(settings)
    module.init_weights()
    for fusion in module.fusions:
        sampler = fusion.dysampler
        for conv in (fusion.content_encoder, fusion.content_encoder2, sampler.offset, sampler.hr_offset):
            assert 0 < conv.weight.abs().max() < 0.01
            assert not conv.bias.any()
        assert not sampler.direct_scale.weight.any()
        assert not sampler.hr_direct_scale.weight.any()
        assert fusion.hr_channel_compressor.weight.std() > 0.05
    assert module.lateral_convs[0].conv.weight.std() > 0.05


def test_every_parameter_gets_a_gradient():
    module = neck(add_extra_convs="on_input")
    module.init_weights()
    outs = module(pyramid(ODD))
    sum(((out - 1) ** 2).mean() for out in outs).backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
        assert torch.isfinite(parameter.grad).all(), name


def test_checkpointing_equals_the_plain_step():
    results = []
    for with_cp in (False, True):
        module = neck(with_cp=with_cp)
        outs = module(pyramid(EVEN))
        sum(out.square().mean() for out in outs).backward()
        results.append([*outs, *(p.grad for p in module.parameters())])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_switches_reach_the_fusion():
    module = neck(lowpass_kernel=3, highpass_kernel=5, feature_resample_group=2)
    assert module.fusions[0].content_encoder.out_channels == 9
    assert module.fusions[0].content_encoder2.out_channels == 25
    assert module.fusions[0].dysampler.groups == 2
    assert module.fusions[0].hr_channel_compressor.out_channels == 16
    bare = neck(use_high_pass=False, feature_resample=False)
    assert bare.fusions[0].content_encoder2 is None
    assert bare.fusions[0].dysampler is None
    assert [o.shape for o in bare(pyramid(ODD))] == [o.shape for o in neck()(pyramid(ODD))]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    outs = neck().to(dtype)(pyramid(ODD, dtype))
    for a, b in zip(outs, neck()(pyramid(ODD)), strict=True):
        assert a.dtype == dtype
        torch.testing.assert_close(a.float(), b, atol=0.15, rtol=0.1)


def test_wrong_number_of_inputs_and_unknown_keywords():
    with pytest.raises(ValueError, match="expected 4 feature maps, got 3"):
        neck()(pyramid(EVEN)[:3])
    with pytest.raises(TypeError, match="upsample_cfg"):
        build_neck(dict(type="FreqFusionFPN", in_channels=CHANNELS, out_channels=8, num_outs=5, upsample_cfg={}))


def test_empty_features_are_refused():
    with pytest.raises(ValueError, match="expected non-empty features"):
        neck()([x[:0] for x in pyramid(EVEN)])
