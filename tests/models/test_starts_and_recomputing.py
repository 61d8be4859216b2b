"""Starts, defaults and switches of the models that change no shape: what a wrong one would spoil quietly."""

from __future__ import annotations

import copy
import inspect

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from fdam_rotate.models.backbones import LSKNet, LSKNetFDAM
from fdam_rotate.models.backbones.lsknet import LSKBlock
from fdam_rotate.models.backbones.lsknet_fdam import InvertedLSKAttention
from fdam_rotate.models.layers import FreqScale, cpu
from fdam_rotate.models.layers.att_inv import head_logits
from fdam_rotate.models.necks import FDAMFPN

SMALL = dict(embed_dims=(16, 32, 80, 64), depths=(1, 1, 1, 1), mlp_ratios=(2, 2, 2, 2))


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
