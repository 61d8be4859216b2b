"""Starts, defaults and switches of the models that change no shape: what a wrong one would spoil quietly."""

from __future__ import annotations

import copy
import inspect

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from fdam_rotate.models.backbones import LSKNet, LSKNetFDAM, MiTFDAM, ViTFDAM
from fdam_rotate.models.backbones.lsknet import LSKBlock
from fdam_rotate.models.backbones.lsknet_fdam import InvertedLSKAttention
from fdam_rotate.models.layers import AttInvAttention, FreqScale, cpu
from fdam_rotate.models.layers.att_inv import head_logits
from fdam_rotate.models.layers.freq_fusion import FreqFusion
from fdam_rotate.models.necks import FDAMFPN, FreqFusionFPN, SimplePyramid

SMALL = dict(embed_dims=(16, 32, 80, 64), depths=(1, 1, 1, 1), mlp_ratios=(2, 2, 2, 2))
VIT = dict(arch=dict(embed_dims=64, depth=2, num_heads=2), img_size=64)
MIT = dict(arch=dict(embed_dims=16, depths=(1, 1, 1, 1)))


@pytest.mark.parametrize("start", [1e-2, 0.7])
def test_both_layer_scales_start_where_they_are_told(start):
    model = LSKNet(**SMALL, layer_scale=start)
    for again in (False, True):
        for block in (model.block1[0], model.block4[0]):
            assert (block.layer_scale_1 == start).all()
            assert (block.layer_scale_2 == start).all()
            torch.nn.init.ones_(block.layer_scale_1)
            torch.nn.init.ones_(block.layer_scale_2)
        model.reset_parameters()
        assert again or (model.block2[0].layer_scale_2 == start).all()


def test_a_block_alone_starts_at_the_published_scales():
    block = LSKBlock(16, 2, 0.0, 0.0, dict(type="BN"))
    assert (block.layer_scale_1 == 1e-2).all()
    assert (block.layer_scale_2 == 1e-2).all()


def test_outputs_come_fine_to_coarse_whatever_order_is_asked_for():
    model = LSKNet(**SMALL, out_indices=(3, 1)).eval()
    assert (model.out_indices, model.out_channels, model.out_strides) == ((1, 3), (32, 64), (8, 32))
    with torch.no_grad():
        assert [out.shape[1] for out in model(torch.zeros(1, 3, 64, 64))] == [32, 64]


def test_checkpointing_runs_each_block_again_and_keeps_the_statistics_of_one_run():
    torch.manual_seed(0)
    plain = LSKNet(**SMALL)
    saving = copy.deepcopy(plain)
    saving.with_cp = True
    images = torch.randn(2, 3, 64, 64)
    runs = {}
    for name, model in (("plain", plain), ("saving", saving)):
        runs[name] = 0

        def count(*_, name=name):
            runs[name] += 1

        model.block2[0].attn.register_forward_pre_hook(count)
        sum(out.square().sum() for out in model.train()(images)).backward()
    assert runs == {"plain": 1, "saving": 2}
    for a, b in zip(plain.modules(), saving.modules(), strict=True):
        if isinstance(a, _BatchNorm):
            assert torch.allclose(a.running_mean, b.running_mean, atol=1e-6)
            assert torch.allclose(a.running_var, b.running_var, atol=1e-6)
            assert a.num_batches_tracked == b.num_batches_tracked == 1
            assert (a.momentum, b.momentum) == (0.1, 0.1)


def test_dropout_acts_twice_in_the_mlp():
    mlp = LSKNet(**SMALL, drop_rate=0.5).block1[0].mlp.train()
    seen = []
    mlp.drop.register_forward_hook(lambda _, inputs, output: seen.append(tuple(output.shape)))
    mlp(torch.randn(1, 16, 4, 4))
    assert seen == [(1, 32, 4, 4), (1, 16, 4, 4)]


def test_all_of_the_modulation_is_started_afresh():
    attention = InvertedLSKAttention(16, 2)
    torch.nn.init.constant_(attention.dy_freq_starrelu.scale, 3)
    torch.nn.init.constant_(attention.dy_freq_starrelu.bias, 3)
    torch.nn.init.constant_(attention.lf_gamma, 3)
    torch.nn.init.constant_(attention.hf_gamma, 3)
    attention.init_weights()
    assert (attention.dy_freq_starrelu.scale.item(), attention.dy_freq_starrelu.bias.item()) == (1, 0)
    assert torch.equal(attention.lf_gamma, torch.full((16,), 1e-5))
    assert torch.equal(attention.hf_gamma, torch.full((16,), 1e-5))


def test_published_defaults():
    layer = FreqScale(128)
    assert layer.reweight.fc1.weight.shape == (8, 128)  # a sixteenth
    assert (layer.group, layer.num_filters, layer.complex_weights.shape[2:]) == (16, 4, (14, 8))
    defaults = {name: p.default for name, p in inspect.signature(LSKNetFDAM).parameters.items()}
    assert defaults["num_heads"] == (1, 2, 5, 8)
    assert defaults["embed_dims"] == (64, 128, 320, 512)
    assert defaults["depths"] == (2, 2, 4, 2)
    assert defaults["mlp_ratios"] == (8, 8, 4, 4)
    neck = FDAMFPN([16, 32], 16, 2)
    assert neck.freq_place == "fused"
    assert all(isinstance(layer, FreqScale) for layer in neck.freq_scale)


@pytest.mark.parametrize("transposed", [False, True])
def test_the_gradient_of_the_logits_lies_as_their_input_does(transposed):
    attention = InvertedLSKAttention(16, 2)
    x = torch.randn(2, 30, 16).transpose(1, 2) if transposed else torch.randn(2, 16, 30)
    x = x.detach().requires_grad_()
    low, high = head_logits(x, attention.dy_freq, attention.dy_freq_2, attention.dy_freq_starrelu)
    (gradient,) = torch.autograd.grad((low * high).sum(), x)
    assert gradient.stride() == x.stride()


def test_the_gate_has_the_layout_of_its_features_not_of_the_selection():
    maps = [torch.randn(2, 16, 6, 7) for _ in range(2)]
    weights = [torch.randn(2, 4, 6, 7) for _ in range(2)]
    gammas = [torch.randn(16) for _ in range(2)]
    expected = cpu.inverted_gate(*maps, *weights, *gammas)
    for first, second in (
        (torch.channels_last, torch.contiguous_format),
        (torch.contiguous_format, torch.channels_last),
    ):
        u, s = maps[0].contiguous(memory_format=first), maps[1].contiguous(memory_format=second)
        gated = cpu.inverted_gate(u, s, *weights, *gammas)
        assert gated.stride() == u.stride()
        assert torch.allclose(gated, expected, atol=1e-6)


def test_nothing_freezes_without_being_asked_and_the_first_stage_does():
    for stages, frozen in ((0, []), (-1, []), (1, [1]), (4, [1, 2, 3, 4])):
        model = LSKNet(**SMALL, frozen_stages=stages).train()
        for number in range(1, 5):
            parts = [getattr(model, f"{name}{number}") for name in ("patch_embed", "block", "norm")]
            assert all(p.requires_grad != (number in frozen) for part in parts for p in part.parameters())
            assert all(part.training != (number in frozen) for part in parts)


# ---- what no other value shows


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (LSKNet, dict(in_channels=3, drop_rate=0, drop_path_rate=0, out_indices=(0, 1, 2, 3), frozen_stages=-1,
                      norm_eval=False, with_cp=False, layer_scale=1e-2, norm_cfg=None)),
        (LSKNetFDAM, dict(in_channels=3, drop_rate=0, drop_path_rate=0, out_indices=(0, 1, 2, 3), frozen_stages=-1,
                          norm_eval=False, with_cp=False, layer_scale=1e-2, norm_cfg=None)),
        (MiTFDAM, dict(arch="b0", in_channels=3, mlp_ratio=4, drop_rate=0, drop_path_rate=0, frozen_stages=-1,
                       out_indices=(0, 1, 2, 3), with_cp=False)),
        (ViTFDAM, dict(arch="base", img_size=224, patch_size=16, in_channels=3, mlp_ratio=4, qkv_bias=True,
                       layer_scale=1e-4, drop_path_rate=0, window_size=16, frozen_stages=-1, with_cp=False)),
        (FreqFusionFPN, dict(compressed_channels=64, lowpass_kernel=5, highpass_kernel=3, use_high_pass=True,
                             feature_resample=True, feature_resample_group=4, with_cp=False)),
        (SimplePyramid, dict(out_channels=256, num_outs=5)),
        (FreqScale, dict(group=16, num_filters=4, size=14, reweight_ratio=1 / 16, init_scale=1e-5, impl="fft")),
    ],
)  # fmt: skip
def test_defaults_are_the_published_ones(kind, expected):
    parameters = inspect.signature(kind).parameters
    assert {name: parameters[name].default for name in expected} == expected


@pytest.mark.parametrize("kind", [LSKNetFDAM, MiTFDAM, ViTFDAM, SimplePyramid])
def test_norms_over_channels_have_the_published_epsilon(kind):
    settings = {LSKNetFDAM: SMALL, MiTFDAM: MIT, ViTFDAM: VIT, SimplePyramid: dict(in_channels=[16], out_channels=8)}
    model = kind(**settings[kind])
    norms = [module for module in model.modules() if isinstance(module, torch.nn.LayerNorm)]
    assert norms
    assert {norm.eps for norm in norms} == {1e-6}
    assert {module.eps for module in model.modules() if isinstance(module, _BatchNorm)} <= {1e-5}


def _runs_of(model, part, inputs):
    runs = []
    part.register_forward_pre_hook(lambda *_: runs.append(1))
    outs = model.train()(inputs)
    sum(out.square().mean() for out in outs).backward()
    return len(runs)


@pytest.mark.parametrize("asked", [False, True])
def test_blocks_are_run_again_where_that_is_asked_for(asked):
    images = torch.randn(2, 3, 64, 64)
    lsk, mit, vit = LSKNetFDAM(**SMALL, with_cp=asked), MiTFDAM(**MIT, with_cp=asked), ViTFDAM(**VIT, with_cp=asked)
    assert _runs_of(lsk, lsk.block2[0].mlp, images) == 1 + asked
    assert _runs_of(mit, mit.layers[1][1][0].ffn, images) == 1 + asked
    assert _runs_of(vit, vit.blocks[1].mlp, images) == 1 + asked
    neck = FreqFusionFPN([4, 6], 8, 2, compressed_channels=16, with_cp=asked)
    maps = [torch.randn(1, c, n, n, requires_grad=True) for c, n in ((4, 8), (6, 4))]
    assert _runs_of(neck, neck.fusions[0].hr_channel_compressor, maps) == 1 + asked
    frozen = LSKNetFDAM(**SMALL, with_cp=asked, frozen_stages=1)
    assert _runs_of(frozen, frozen.block1[0].mlp, images) == 1, "nothing goes back through it"


def test_settings_reach_lsknet_from_lsknet_fdam():
    model = LSKNetFDAM(
        **{**SMALL, "mlp_ratios": (3, 2, 2, 2)}, layer_scale=0.7, channels_last=False, frozen_stages=2, norm_eval=True,
        init_cfg=dict(type="Constant", layer="Conv2d", val=2.0),
    )  # fmt: skip
    assert (model.block3[0].layer_scale_1 == 0.7).all()
    assert model.channels_last is False
    assert (model.frozen_stages, model.norm_eval) == (2, True)
    assert model.block1[0].mlp.fc1.out_channels == 48
    model.init_weights()
    assert (model.patch_embed3.proj.weight == 2).all()


@pytest.mark.parametrize("last", [False, True])
def test_the_layout_is_the_one_that_is_asked_for(last):
    outs = LSKNetFDAM(**SMALL, channels_last=last).eval()(torch.randn(2, 3, 64, 64))
    for out in outs[:2]:
        assert out.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def test_both_dropouts_of_mits_network_drop():
    ffn = MiTFDAM(**MIT, drop_rate=0.3).layers[0][1][0].ffn
    assert [layer.p for layer in ffn.layers if isinstance(layer, torch.nn.Dropout)] == [0.3, 0.3]


def test_settings_of_vit_reach_its_blocks():
    model = ViTFDAM(**VIT, drop_path_rate=0.3, qkv_bias=False, layer_scale=0.2, mlp_ratio=2)
    for block in model.blocks:
        assert block.drop_path.drop_prob == 0.3
        assert block.attn.qkv.bias is None
        assert (block.gamma_1 == 0.2).all()
        assert (block.gamma_2 == 0.2).all()
        assert block.mlp.fc1.out_features == 128
    alone = type(model.blocks[0])(64, 2, 4, True, 0.4, 0.0, 0, False, False)
    assert (alone.gamma_1 == 0.4).all()
    assert (alone.gamma_2 == 0.4).all()
    few = ViTFDAM(dict(embed_dims=64, depth=3, num_heads=2), img_size=64)
    assert [block.window_size for block in few.blocks] == [0, 0, 0], "fewer blocks than quarters: each is global"


@pytest.mark.parametrize(
    ("stages", "frozen"),
    [(-1, ()), (0, ("patch_embed", "pos_embed")), (1, ("patch_embed", "pos_embed", "blocks.0"))],
)
def test_what_vit_freezes(stages, frozen):
    model = ViTFDAM(**VIT, frozen_stages=stages)
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad != name.startswith(frozen or "none"), name
    assert model.train().blocks[1].training
    assert model.patch_embed.training == (stages < 0)


def test_windows_begin_where_one_side_is_longer():
    torch.manual_seed(0)
    windowed, whole = (ViTFDAM(**VIT, window_size=size, global_blocks=[], layer_scale=1.0).eval() for size in (4, 0))
    whole.load_state_dict(windowed.state_dict())
    for size, equal in (((64, 64), True), ((64, 80), False), ((80, 64), False)):
        images = torch.randn(1, 3, *size)
        assert torch.allclose(windowed(images)[0], whole(images)[0], atol=1e-6) == equal


@pytest.mark.parametrize("kind", ["MiT", "ViT"])
def test_starts_of_the_transformers(kind):
    torch.manual_seed(0)
    model = MiTFDAM(arch=dict(embed_dims=32, depths=(1, 1, 1, 1))) if kind == "MiT" else ViTFDAM(**VIT)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(3.0)
    model.reset_parameters()
    if kind == "MiT":
        block = model.layers[3][1][0]
        assert not block.attn.attn.in_proj_bias.any()
        assert not block.attn.attn.out_proj.bias.any()
        assert block.attn.attn.out_proj.weight.std().item() == pytest.approx(0.02, rel=0.05)
        depthwise = model.layers[1][1][0].ffn.layers[1]
        assert depthwise.weight.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.1)
    else:
        block = model.blocks[1]
        assert block.mlp.fc1.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert not block.mlp.fc1.bias.any()
        assert model.pos_embed.std().item() == pytest.approx(0.02, rel=0.1)
        assert model.patch_embed.proj.weight.abs().max() <= (3 * 16 * 16) ** -0.5
    for name in ("freq_scale_1", "freq_scale_2"):
        assert getattr(block, name).complex_weights.std().item() == pytest.approx(1e-5, rel=0.2)
    assert (block.norm2.weight == 1).all()
    assert not block.norm2.bias.any()


@pytest.mark.parametrize("norm_cfg", [dict(type="BN"), dict(type="GN", num_groups=2)])
def test_lsknet_starts_every_kind_of_norm_afresh(norm_cfg):
    model = LSKNet(**SMALL, norm_cfg=norm_cfg)
    norms = [model.block1[0].norm1, model.patch_embed2.norm, model.norm1]
    with torch.no_grad():
        for part in norms:
            part.weight.fill_(3)
            part.bias.fill_(3)
            if isinstance(part, _BatchNorm):
                part.running_var.fill_(3)
    model.init_weights()
    for part in norms:
        assert (part.weight == 1).all()
        assert not part.bias.any()
        if isinstance(part, _BatchNorm):
            assert (part.running_var == 1).all()


def test_all_of_the_fusion_is_started_afresh():
    torch.manual_seed(0)
    fusion = FreqFusion(32, 32, compressed_channels=64)
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.fill_(3.0)
    fusion.init_weights()
    sampler = fusion.dysampler
    for norm in (sampler.norm_hr, sampler.norm_lr):
        assert norm.num_groups == 8
        assert (norm.weight == 1).all()
        assert not norm.bias.any()
    for conv in (fusion.content_encoder, fusion.content_encoder2, sampler.offset, sampler.hr_offset):
        assert conv.weight.std().item() == pytest.approx(1e-3, rel=0.1)
        assert not conv.bias.any()
    for conv in (sampler.direct_scale, sampler.hr_direct_scale):
        assert not conv.weight.any()
        assert not conv.bias.any()
    for conv in (fusion.hr_channel_compressor, fusion.lr_channel_compressor):
        bound = (6 / (32 + 64)) ** 0.5
        assert 0.9 * bound < conv.weight.abs().max() <= bound
        assert not conv.bias.any()


def test_settings_that_no_network_can_have():
    with pytest.raises(ValueError, match="embed_dims must be positive and even"):
        LSKNet(**{**SMALL, "embed_dims": (0, 8, 12, 16)})
    with pytest.raises(ValueError, match="frozen_stages must be -1 to 4, got -2"):
        LSKNet(**SMALL, frozen_stages=-2)
    with pytest.raises(ValueError, match="depths must have 4 entries"):
        LSKNet(**{**SMALL, "depths": (1,) * 5})
    with pytest.raises(ValueError, match="num_heads must divide the stage's channels, got 0 heads"):
        LSKNetFDAM(num_heads=(0, 1, 1, 1), **SMALL)
    with pytest.raises(ValueError, match="must be at least 1, got 16, 16, 4, 0"):
        FreqScale(16, size=0)
    with pytest.raises(ValueError, match=r"reweight_ratio must be at least 1, got 16 \* 0.03"):
        FreqScale(16, reweight_ratio=0.03)
    for dim, heads in ((0, 1), (8, 0)):
        with pytest.raises(ValueError, match=f"num_heads must divide dim, got dim={dim} and num_heads={heads}"):
            AttInvAttention(dim, heads)
    with pytest.raises(ValueError, match="num_outs must be at least 4, got 3"):
        SimplePyramid([16], 8, num_outs=3)
    assert len(SimplePyramid([16], 8, num_outs=4)([torch.zeros(1, 16, 2, 2)])) == 4
    with pytest.raises(ValueError, match="lowpass_kernel must be odd and positive, got -1"):
        FreqFusionFPN([4, 6], 8, 2, lowpass_kernel=-1)
    with pytest.raises(ValueError, match="img_size must be a multiple of patch_size = 16, got 0"):
        ViTFDAM(VIT["arch"], img_size=0)


def test_hidden_units_of_the_routing_come_in_pairs_of_opposite_sign():
    """Of each pair one passes StarReLU, so that filters and routing always get a gradient."""
    for dim in (32, 48, 64):
        weight = FreqScale(dim).reweight.fc1.weight
        pairs = len(weight) // 2
        assert torch.equal(weight[1 : 2 * pairs : 2], -weight[0 : 2 * pairs : 2])
        assert weight.abs().max() > 0
