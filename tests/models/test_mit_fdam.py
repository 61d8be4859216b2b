"""MiTFDAM: MMSegmentation's keys and arithmetic, the inversion over reduced tokens, any size."""

from __future__ import annotations

import pytest
import torch
from fdam_formula import (
    assert_gradients,
    assert_small_start,
    freq_scale_by_formula,
    invert_by_formula,
    is_new,
    scale_tokens_by_formula,
    silence,
    softmax_attention,
    strengthen,
)
from mmrotate.models.builder import build_backbone
from torch import nn
from torch.nn import functional as F

from fdam_rotate.apis.checkpoints.checkpoint import load_into
from fdam_rotate.models.backbones import MiTFDAM
from fdam_rotate.models.backbones.mit_fdam import ReducedAttention

TINY = {"embed_dims": 16, "depths": (1, 2, 1, 1)}

# Names and shapes in the mit_b0 to mit_b5 files that MMSegmentation hosts, for a stage of dim C with reduction R; K is
# the kernel of the patch embedding, I the channels before it.
STAGE = {
    "0.projection.weight": "C I K K",
    "0.projection.bias": "C",
    "0.norm.weight": "C",
    "0.norm.bias": "C",
    "2.weight": "C",
    "2.bias": "C",
}
BLOCK = {
    "norm1.weight": "C",
    "norm1.bias": "C",
    "attn.attn.in_proj_weight": "3C C",
    "attn.attn.in_proj_bias": "3C",
    "attn.attn.out_proj.weight": "C C",
    "attn.attn.out_proj.bias": "C",
    "norm2.weight": "C",
    "norm2.bias": "C",
    "ffn.layers.0.weight": "4C C 1 1",
    "ffn.layers.0.bias": "4C",
    "ffn.layers.1.weight": "4C 1 3 3",
    "ffn.layers.1.bias": "4C",
    "ffn.layers.4.weight": "C 4C 1 1",
    "ffn.layers.4.bias": "C",
}
REDUCTION = {"attn.sr.weight": "C C R R", "attn.sr.bias": "C", "attn.norm.weight": "C", "attn.norm.bias": "C"}


def mmseg_shapes(embed_dims, depths):
    shapes, channels = {}, 3
    for i, (heads, ratio, depth) in enumerate(zip((1, 2, 5, 8), (8, 4, 2, 1), depths, strict=True)):
        c = embed_dims * heads
        sizes = {"C": c, "3C": 3 * c, "4C": 4 * c, "I": channels, "K": 7 if i == 0 else 3, "R": ratio, "1": 1, "3": 3}
        block = BLOCK | (REDUCTION if ratio > 1 else {})
        names = STAGE | {f"1.{j}.{name}": shape for j in range(depth) for name, shape in block.items()}
        shapes |= {f"layers.{i}.{k}": tuple(sizes[s] for s in v.split()) for k, v in names.items()}
        channels = c
    return shapes


def mit(**settings):
    torch.manual_seed(0)
    return MiTFDAM(**{"arch": TINY, **settings}).eval()


def image(size, batch=2):
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("arch", "embed_dims", "depths"),
    [
        ("b0", 32, (2, 2, 2, 2)),
        ("b1", 64, (2, 2, 2, 2)),
        ("b2", 64, (3, 4, 6, 3)),
        ("b3", 64, (3, 4, 18, 3)),
        ("b4", 64, (3, 8, 27, 3)),
        ("b5", 64, (3, 6, 40, 3)),
    ],
)
def test_keys_and_shapes_are_the_published_ones(arch, embed_dims, depths):
    with torch.device("meta"):
        model = MiTFDAM(arch)
    shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    published = mmseg_shapes(embed_dims, depths)
    assert {k: v for k, v in shapes.items() if not is_new(k)} == published
    assert len(shapes) - len(published) == sum(depths) * (8 + 2 * 5)


def test_a_checkpoint_loads_with_only_fdam_missing():
    generator = torch.Generator().manual_seed(3)
    state = {k: torch.randn(v, generator=generator) for k, v in mmseg_shapes(16, TINY["depths"]).items()}
    model = mit()
    report = load_into(model, {"state_dict": state})
    assert set(report.missing) == {k for k in model.state_dict() if is_new(k)}
    assert not report.unexpected
    assert not report.mismatched
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items() if k in state)


# First, middle and last value and mean magnitude of each output of MMSegmentation 0.30.0's MixVisionTransformer(
# embed_dims=16, num_layers=[1, 2, 1, 1], num_heads=[1, 2, 5, 8]) in float64, weights and image as in the test
MMSEG_OUTPUTS = [
    ((1, 16, 13, 11), (-1.195704666, -1.011230881, -1.544086751, 0.883197181)),
    ((1, 32, 7, 6), (0.390024201, -0.964318051, -1.292744127, 0.902556798)),
    ((1, 80, 4, 3), (-2.228191103, 0.473772305, -0.000601495, 0.837895836)),
    ((1, 128, 2, 2), (-1.466245875, -0.270619066, -0.681468294, 0.813366152)),
]


def test_plain_network_equals_mmsegmentations():
    def wave(count, shift):
        return torch.sin(torch.arange(count, dtype=torch.float64) * 0.7 + shift)

    model = mit(att_inv=False, freq_scale=False).double()
    with torch.no_grad():
        for index, (name, parameter) in enumerate(sorted(model.named_parameters())):
            norm = parameter.dim() == 1 and name.endswith("weight")
            parameter.copy_((wave(parameter.numel(), index) * 0.1 + (1.0 if norm else 0.0)).reshape(parameter.shape))
        outs = model(wave(3 * 50 * 41, 0.3).reshape(1, 3, 50, 41))
    for out, (shape, (first, middle, last, mean)) in zip(outs, MMSEG_OUTPUTS, strict=True):
        assert out.shape == shape
        values = [*out.flatten()[[0, out.numel() // 2, -1]].tolist(), out.abs().mean().item()]
        assert values == pytest.approx([first, middle, last, mean], abs=1e-7)


def torch_attention(attention, x, hw):
    """MMSegmentation's way: torch's own multi-head attention over the reduced tokens."""
    dim = x.shape[-1]
    module = nn.MultiheadAttention(dim, attention.num_heads, batch_first=True)
    module.load_state_dict(attention.attn.state_dict())
    reduced = x
    if attention.sr_ratio > 1:
        grid = attention.sr(x.transpose(1, 2).reshape(len(x), dim, *hw))
        reduced = attention.norm(grid.flatten(2).transpose(1, 2))
    return module(x, reduced, reduced, need_weights=False)[0]


@pytest.mark.parametrize(("ratio", "hw"), [(4, (9, 8)), (2, (3, 5)), (1, (3, 4))])
def test_plain_attention_equals_torchs(ratio, hw):
    attention = ReducedAttention(32, 2, ratio, att_inv=False)
    x = torch.randn(2, hw[0] * hw[1], 32)
    torch.testing.assert_close(attention(x, hw), torch_attention(attention, x, hw), atol=1e-5, rtol=1e-4)


def attention_by_formula(attention, x, hw):
    """The module's definition: y over the reduced tokens, the inversion from the values at full resolution."""
    dim, attn = x.shape[-1], attention.attn
    w_q, w_k, w_v = attn.in_proj_weight.chunk(3)
    b_q, b_k, b_v = attn.in_proj_bias.chunk(3)
    reduced = x
    if attention.sr_ratio > 1:
        grid = F.conv2d(
            x.transpose(1, 2).reshape(len(x), dim, *hw), attention.sr.weight, attention.sr.bias, attention.sr_ratio
        )
        reduced = attention.norm(grid.flatten(2).transpose(1, 2))
    y = softmax_attention(x @ w_q.T + b_q, reduced @ w_k.T + b_k, reduced @ w_v.T + b_v, attention.num_heads)
    return attn.out_proj(invert_by_formula(attention, x, y, x @ w_v.T + b_v, attention.num_heads))


@pytest.mark.parametrize("size", [(64, 64), (43, 70)])
def test_the_network_equals_the_formulas(size):
    model = strengthen(mit())
    x = image(size)
    outs = []
    for embed, blocks, norm in model.layers:
        x = F.conv2d(
            x, embed.projection.weight, embed.projection.bias, embed.projection.stride, embed.projection.padding
        )
        hw = tuple(x.shape[-2:])
        x = embed.norm(x.flatten(2).transpose(1, 2))
        for block in blocks:
            z = attention_by_formula(block.attn, block.norm1(x), hw)
            x = x + scale_tokens_by_formula(block.freq_scale_1, z, hw)
            up, depthwise, _, _, down, _ = block.ffn.layers
            m = block.norm2(x).transpose(1, 2).reshape(2, -1, *hw)
            m = F.conv2d(m, up.weight, up.bias)
            m = F.gelu(F.conv2d(m, depthwise.weight, depthwise.bias, padding=1, groups=len(m[0])))
            m = freq_scale_by_formula(block.freq_scale_2, F.conv2d(m, down.weight, down.bias))
            x = x + m.flatten(2).transpose(1, 2)
        x = norm(x).transpose(1, 2).reshape(2, -1, *hw)
        outs.append(x)
    for ours, theirs in zip(model(image(size)), outs, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


def test_without_fdam_it_is_the_plain_network():
    plain, ours = mit(att_inv=False, freq_scale=False), mit()
    assert not [k for k in plain.state_dict() if is_new(k)]
    missing, unexpected = ours.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert set(missing) == {k for k in ours.state_dict() if is_new(k)}
    x = image((64, 48))
    for a, b in zip(ours(x), plain(x), strict=True):
        assert 0 < (a - b).abs().max() < 1e-3
    for a, b in zip(silence(ours)(x), plain(x), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (29, 100)])
def test_any_size(size):
    outs = mit(out_indices=(3, 0, 2))(image(size))
    assert isinstance(outs, tuple)
    expected = [(2, c, -(-size[0] // s), -(-size[1] // s)) for c, s in ((16, 4), (80, 16), (128, 32))]
    assert [tuple(out.shape) for out in outs] == expected


@pytest.mark.parametrize("settings", [{"att_inv": False}, {"freq_scale": False}])
def test_switches(settings):
    model = mit(**settings)
    keys = " ".join(model.state_dict())
    assert ("dy_freq" in keys) == settings.get("att_inv", True)
    assert ("freq_scale" in keys) == settings.get("freq_scale", True)
    assert all(torch.isfinite(out).all() for out in model(image((32, 32))))


def test_rates_and_ratio():
    model = mit(drop_rate=0.3, drop_path_rate=0.4, mlp_ratio=2)
    blocks = [block for stage in model.layers for block in stage[1]]
    assert [block.drop_path.drop_prob for block in blocks] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert blocks[0].ffn.layers[0].out_channels == 32
    assert blocks[0].ffn.layers[3].p == 0.3


@pytest.mark.parametrize("init_cfg", [None, [dict(type="Normal", layer=["Linear", "Conv2d"], std=1.0)]])
def test_small_starts_survive_init_weights(init_cfg):
    model = build_backbone(dict(type="MiTFDAM", arch=TINY, init_cfg=init_cfg))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(3.0)  # what a detector's own init_cfg may have done
    model.init_weights()
    assert_small_start(model)
    assert model.layers[0][1][0].attn.attn.in_proj_weight.std() < 0.5


def test_small_starts_survive_a_checkpoint_without_fdam(tmp_path):
    """``init_cfg=dict(type="Pretrained")`` ends mmcv's walk before FDAM's layers are reached."""
    plain = mit(att_inv=False, freq_scale=False)
    torch.save(plain.state_dict(), tmp_path / "plain.pth")
    checkpoint = dict(type="Pretrained", checkpoint=str(tmp_path / "plain.pth"))
    model = build_backbone(dict(type="MiTFDAM", arch=TINY, init_cfg=checkpoint))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(3.0)
    model.init_weights()
    assert_small_start(model)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in plain.state_dict().items())


def test_every_parameter_gets_a_gradient():
    model = mit(arch={"embed_dims": 64, "depths": (1, 1, 1, 1)}).train()
    sum(((out - 1) ** 2).mean() for out in model(image((64, 64)))).backward()
    assert_gradients(model)


def test_checkpointing_equals_the_plain_step():
    results = []
    for with_cp in (False, True):
        model = strengthen(mit(with_cp=with_cp)).train()
        outs = model(image((32, 48)))
        sum(out.square().mean() for out in outs).backward()
        results.append([*outs, *(p.grad for p in model.parameters())])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_frozen_stages_stay_through_a_step():
    model = mit(frozen_stages=2, drop_path_rate=0.5, drop_rate=0.1).train()
    assert not model.layers[1][1][1].drop_path.training
    assert model.layers[2][1][0].drop_path.training
    before = {k: v.clone() for k, v in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    sum(out.square().sum() for out in model(image((32, 32)))).backward()
    optimizer.step()
    changed = {k.split(".")[1] for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"2", "3"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    model = mit()
    exact = model(image((40, 64)))
    for out, reference in zip(model.to(dtype)(image((40, 64)).to(dtype)), exact, strict=True):
        assert out.dtype == dtype
        assert (out.float() - reference).abs().mean() < 0.05


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"arch": "b6"}, "arch must be one of b0, b1, b2, b3, b4, b5, or a dict, got 'b6'"),
        ({"arch": {"depths": (1,)}}, "keys embed_dims, depths, got depths"),
        ({"arch": {"embed_dims": 16, "depths": (1,)}}, "depths must have 4 entries"),
        ({"out_indices": ()}, "out_indices must be some of 0 to 3"),
        ({"out_indices": (4,)}, r"out_indices must be some of 0 to 3, got \(4,\)"),
        ({"frozen_stages": 5}, "frozen_stages must be -1 to 4, got 5"),
    ],
)
def test_bad_arguments(settings, message):
    with pytest.raises(ValueError, match=message):
        mit(**settings)


def test_small_images_and_unknown_keywords():
    with pytest.raises(ValueError, match="from 29 x 29 pixels up, got 28 x 64"):
        mit()(image((28, 64)))
    with pytest.raises(TypeError, match=r"MiTFDAM.*pretrained"):
        build_backbone(dict(type="MiTFDAM", pretrained="x.pth"))
