"""ViTFDAM: the published arithmetic and keys, windows, position embeddings, any size."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from fdam_formula import (
    assert_gradients,
    assert_small_start,
    invert_by_formula,
    is_new,
    scale_tokens_by_formula,
    silence,
    softmax_attention,
    strengthen,
)
from mmcv.runner import load_checkpoint
from mmrotate.models.builder import build_backbone
from torch.nn import functional as F

from fdam_rotate.apis.checkpoints.checkpoint import load_into
from fdam_rotate.models.backbones import ViTFDAM
from fdam_rotate.models.backbones.vit_fdam import ARCHS, attend_in_windows, even_runs, resize_positions

TINY = dict(embed_dims=64, depth=2, num_heads=4)

# The state dict of FDAM's published backbone (FDAM_mmseg, vit_models_freq with qkv_bias): shapes for 768 channels
# and 512 x 512 images; FreqScale has group 16, 4 filters of 14 x 8, hidden 768 / 16 = 48.
PUBLISHED_TOP = {
    "pos_embed": (1, 1024, 768),
    "patch_embed.proj.weight": (768, 3, 16, 16),
    "patch_embed.proj.bias": (768,),
}
DEIT_BLOCK = {
    "gamma_1": (768,),
    "gamma_2": (768,),
    "norm1.weight": (768,),
    "norm1.bias": (768,),
    "attn.qkv.weight": (2304, 768),
    "attn.qkv.bias": (2304,),
    "attn.proj.weight": (768, 768),
    "attn.proj.bias": (768,),
    "norm2.weight": (768,),
    "norm2.bias": (768,),
    "mlp.fc1.weight": (3072, 768),
    "mlp.fc1.bias": (3072,),
    "mlp.fc2.weight": (768, 3072),
    "mlp.fc2.bias": (768,),
}
FDAM_BLOCK = {
    "attn.lf_gamma": (768,),
    "attn.hf_gamma": (768,),
    "attn.dy_freq.weight": (12, 768),
    "attn.dy_freq.bias": (12,),
    "attn.dy_freq_2.weight": (12, 768),
    "attn.dy_freq_2.bias": (12,),
    "attn.dy_freq_starrelu.scale": (1,),
    "attn.dy_freq_starrelu.bias": (1,),
    **{
        f"freq_scale_{i}.{name}": shape
        for i in (1, 2)
        for name, shape in {
            "complex_weights": (4, 48, 14, 8),
            "reweight.fc1.weight": (48, 768),
            "reweight.act.scale": (1,),
            "reweight.act.bias": (1,),
            "reweight.fc2.weight": (64, 48),
        }.items()
    },
}


def vit(**settings):
    torch.manual_seed(0)
    return ViTFDAM(**{"arch": TINY, "img_size": 64, **settings}).eval()


def image(size, batch=2):
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(1))


def test_keys_and_shapes_are_the_published_ones():
    published = dict(PUBLISHED_TOP)
    published |= {f"blocks.{i}.{k}": v for i in range(12) for k, v in (DEIT_BLOCK | FDAM_BLOCK).items()}
    with torch.device("meta"):
        model = ViTFDAM("base", img_size=512, window_size=0)
    assert {k: tuple(v.shape) for k, v in model.state_dict().items()} == published


def deit_checkpoint(side=4):
    """A checkpoint as DeiT-III publishes them, of TINY's size: no position for the class token."""
    own = vit(arch=TINY | {"depth": 2}, att_inv=False, freq_scale=False).state_dict()
    generator = torch.Generator().manual_seed(3)
    state = {k: torch.randn(v.shape, generator=generator) * 0.1 for k, v in own.items()}
    state["pos_embed"] = torch.randn(1, side * side, 64, generator=generator)
    extra = {"cls_token": (1, 1, 64), "norm.weight": (64,), "norm.bias": (64,), "head.weight": (10, 64)}
    return {"model": state | {k: torch.randn(shape, generator=generator) for k, shape in extra.items()}}


def test_deit_checkpoint_loads_with_only_fdam_missing():
    model, checkpoint = vit(), deit_checkpoint()
    report = load_into(model, checkpoint)
    assert set(report.missing) == {k for k in model.state_dict() if is_new(k)}
    told = [*report.unexpected, *(k for keys in report.dropped.values() for k in keys)]
    assert sorted(told) == ["cls_token", "head.weight", "norm.bias", "norm.weight"]
    assert not report.mismatched
    for key in report.loaded:
        assert torch.equal(model.state_dict()[key], checkpoint["model"][key])


@pytest.mark.parametrize("cls_position", [False, True])
def test_positions_of_another_size_are_resized_when_loaded(cls_position, tmp_path):
    state = deit_checkpoint(side=6)["model"]
    grid = state["pos_embed"].reshape(1, 6, 6, 64).permute(0, 3, 1, 2)
    expected = F.interpolate(grid, (4, 4), mode="bicubic").flatten(2).transpose(1, 2)
    if cls_position:
        state["pos_embed"] = torch.cat((torch.full((1, 1, 64), 100.0), state["pos_embed"]), 1)
    torch.save({"state_dict": {f"backbone.{k}": v for k, v in state.items()}}, tmp_path / "vit.pth")
    by_us, by_mmcv = vit(), vit()
    assert not load_into(by_us, tmp_path / "vit.pth").mismatched
    load_checkpoint(by_mmcv, str(tmp_path / "vit.pth"), revise_keys=[(r"^backbone\.", "")])
    for model in (by_us, by_mmcv):
        torch.testing.assert_close(model.pos_embed.data, expected)
        assert torch.equal(model.blocks[1].attn.qkv.weight, state["blocks.1.attn.qkv.weight"])


@pytest.mark.parametrize("count", [18, 32], ids=["two tokens more", "4 x 8"])
def test_positions_that_are_no_square_grid_are_refused_as_a_mismatch(count):
    state = deit_checkpoint()["model"] | {"pos_embed": torch.zeros(1, count, 64)}
    model = vit()
    before = model.pos_embed.detach().clone()
    report = load_into(model, state)
    assert dict(report.mismatched) == {"pos_embed": ((1, count, 64), (1, 16, 64))}
    assert not report.resized
    assert torch.equal(model.pos_embed, before)
    assert torch.equal(model.blocks[1].attn.qkv.weight, state["blocks.1.attn.qkv.weight"])
    with pytest.raises(ValueError, match="square grid, got 18"):
        resize_positions(torch.zeros(1, 18, 64), (4, 4))


@pytest.mark.parametrize(("side", "shrinks"), [(6, True), (3, False)])
def test_resized_positions_are_told(side, shrinks, caplog):
    report = load_into(vit(att_inv=False, freq_scale=False, arch=TINY | {"depth": 2}), deit_checkpoint(side))
    assert dict(report.resized) == {"pos_embed": ((1, side * side, 64), (1, 16, 64))}
    assert report.complete
    assert not report.exact
    assert f"resized: pos_embed {side}x{side} -> 4x4" in report.table()
    warned = [r for r in caplog.records if r.name == "fdam_rotate" and r.levelname == "WARNING"]
    assert [f"pos_embed {side}x{side} -> 4x4" in r.getMessage() for r in warned] == [True] * shrinks


def test_a_class_tokens_position_left_out_is_told_but_no_warning(caplog):
    state = deit_checkpoint()["model"]
    state["pos_embed"] = torch.cat((torch.zeros(1, 1, 64), state["pos_embed"]), 1)
    report = load_into(vit(), state)
    assert "resized: pos_embed 1x17x64 -> 1x16x64" in report.table()
    assert not caplog.records


def test_resize_positions():
    positions = torch.randn(1, 9, 2)
    assert torch.equal(resize_positions(positions, (3, 3)), positions)
    assert torch.equal(resize_positions(positions[:, [0, *range(9)]], (3, 3)), positions)
    ramp = torch.arange(3.0).repeat(3, 1).reshape(1, 9, 1)  # columns 0 1 2
    wide = resize_positions(ramp, (3, 6)).reshape(3, 6)
    assert (wide[0].diff() > 0).all()
    torch.testing.assert_close(wide, wide[:1].expand(3, 6))
    assert resize_positions(positions.half(), (2, 5)).dtype == torch.float16


def published_block(block, x, hw, heads):
    """fdam.md's block, plainly."""
    attn = block.attn
    z = block.norm1(x)
    q, k, v = F.linear(z, attn.qkv.weight, attn.qkv.bias).chunk(3, dim=-1)
    y = softmax_attention(q, k, v, heads)
    a = F.linear(invert_by_formula(attn, z, y, v, heads), attn.proj.weight, attn.proj.bias)
    x = x + block.gamma_1 * scale_tokens_by_formula(block.freq_scale_1, a, hw)
    m = block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(x))))
    return x + block.gamma_2 * scale_tokens_by_formula(block.freq_scale_2, m, hw)


@pytest.mark.parametrize("size", [(64, 64), (48, 80)])
def test_the_published_form(size):
    model = strengthen(vit(window_size=0, layer_scale=0.5, out_indices=(0, 1)))
    hw = size[0] // 16, size[1] // 16
    x = F.conv2d(image(size), model.patch_embed.proj.weight, model.patch_embed.proj.bias, stride=16)
    positions = model.pos_embed.reshape(1, 4, 4, 64).permute(0, 3, 1, 2)
    x = (x + F.interpolate(positions, hw, mode="bicubic", align_corners=False)).flatten(2).transpose(1, 2)
    for block, out in zip(model.blocks, model(image(size)), strict=True):
        x = published_block(block, x, hw, heads=4)
        torch.testing.assert_close(out, x.transpose(1, 2).reshape(2, 64, *hw), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("length", "size", "expected"),
    [
        (64, 16, [(0, 64, 16)]),
        (38, 16, [(0, 26, 13), (26, 38, 12)]),
        (17, 16, [(0, 9, 9), (9, 17, 8)]),
        (5, 16, [(0, 5, 5)]),
        (3, 1, [(0, 3, 1)]),
    ],
)
def test_even_runs(length, size, expected):
    assert even_runs(length, size) == expected


def test_windows_divide_every_grid():
    for length in range(1, 70):
        for size in (1, 4, 7, 16):
            runs = even_runs(length, size)
            assert [runs[0][0], *[stop for _, stop, _ in runs]] == [0, *[start for start, _, _ in runs[1:]], length]
            assert all((stop - start) % window == 0 and 0 < window <= size for start, stop, window in runs)
            assert sum((stop - start) // window for start, stop, window in runs) == -(-length // size)


@pytest.mark.parametrize(("hw", "size"), [((4, 4), 2), ((7, 5), 3), ((1, 9), 4), ((3, 3), 8)])
def test_tokens_attend_within_their_window_only(hw, size):
    """A token's output is its window's sum, so it tells which tokens it saw."""
    x = torch.randn(2, hw[0] * hw[1], 3)

    def everyone(tokens):
        return tokens.sum(1, keepdim=True).expand_as(tokens)

    out = attend_in_windows(everyone, x, hw, size).reshape(2, *hw, 3)
    grid = x.reshape(2, *hw, 3)

    def windows(length):
        cuts = [0]
        for start, stop, window in even_runs(length, size):
            cuts += range(start + window, stop + 1, window)
        return list(pairwise(cuts))

    for top, bottom in windows(hw[0]):
        for left, right in windows(hw[1]):
            expected = grid[:, top:bottom, left:right].sum((1, 2))[:, None, None]
            ours = out[:, top:bottom, left:right]
            torch.testing.assert_close(ours, expected.expand_as(ours))


def test_global_blocks():
    model = ViTFDAM(TINY | {"depth": 8}, window_size=2)
    assert [bool(block.window_size) for block in model.blocks] == [True, False] * 4
    model = vit(window_size=2, global_blocks=[0])
    assert [block.window_size for block in model.blocks] == [0, 2]
    everywhere = vit(window_size=0)
    everywhere.load_state_dict(model.state_dict())
    for size, equal in (((32, 32), True), ((48, 64), False)):  # 32 x 32 pixels are one window
        outs = [m(image(size))[0] for m in (strengthen(model), strengthen(everywhere))]
        assert torch.allclose(*outs, atol=1e-6) == equal


@pytest.mark.parametrize("size", [(32, 32), (33, 100), (81, 47)])
def test_any_size(size):
    outs = vit(window_size=2, out_indices=(1, 0))(image(size))
    assert isinstance(outs, tuple)
    assert [tuple(out.shape) for out in outs] == [(2, 64, -(-size[0] // 16), -(-size[1] // 16))] * 2


def test_padding_is_zeros_at_the_right_and_bottom():
    model = vit()
    padded = F.pad(image((40, 56)), (0, 8, 0, 8))
    torch.testing.assert_close(model(image((40, 56)))[0], model(padded)[0])


def test_without_fdam_it_is_the_plain_network():
    plain, ours = vit(att_inv=False, freq_scale=False, window_size=2), vit(window_size=2)
    assert not [k for k in plain.state_dict() if is_new(k)]
    missing, unexpected = ours.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert set(missing) == {k for k in ours.state_dict() if is_new(k)}
    x = image((48, 64))
    assert 0 < (ours(x)[0] - plain(x)[0]).abs().max() < 1e-3
    torch.testing.assert_close(silence(ours)(x)[0], plain(x)[0])


@pytest.mark.parametrize("settings", [{"att_inv": False}, {"freq_scale": False}])
def test_switches(settings):
    model = vit(**settings)
    keys = " ".join(model.state_dict())
    assert ("dy_freq" in keys) == settings.get("att_inv", True)
    assert ("freq_scale" in keys) == settings.get("freq_scale", True)
    assert torch.isfinite(model(image((32, 48)))[0]).all()


@pytest.mark.parametrize("init_cfg", [None, [dict(type="Normal", layer=["Linear", "Conv2d"], std=1.0)]])
def test_small_starts_survive_init_weights(init_cfg):
    model = build_backbone(dict(type="ViTFDAM", arch=TINY, img_size=64, init_cfg=init_cfg))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(3.0)  # what a detector's own init_cfg may have done
    model.init_weights()
    assert_small_start(model)
    assert (model.blocks[0].gamma_1 == 1e-4).all()
    assert 0.01 < model.pos_embed.std() < 0.03


def test_small_starts_survive_a_checkpoint_without_fdam(tmp_path):
    """``init_cfg=dict(type="Pretrained")`` ends mmcv's walk before FDAM's layers are reached."""
    plain = vit(att_inv=False, freq_scale=False)
    torch.save(plain.state_dict(), tmp_path / "plain.pth")
    checkpoint = dict(type="Pretrained", checkpoint=str(tmp_path / "plain.pth"))
    model = build_backbone(dict(type="ViTFDAM", arch=TINY, img_size=64, init_cfg=checkpoint))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(3.0)
    model.init_weights()
    assert_small_start(model)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in plain.state_dict().items())


def test_every_parameter_gets_a_gradient():
    model = vit(window_size=2, layer_scale=0.1).train()
    ((model(image((48, 64)))[0] - 1) ** 2).mean().backward()
    assert_gradients(model)


def test_checkpointing_equals_the_plain_step():
    results = []
    for with_cp in (False, True):
        model = strengthen(vit(with_cp=with_cp, layer_scale=0.1)).train()
        out = model(image((48, 64)))[0]
        out.square().mean().backward()
        results.append([out, *(p.grad for p in model.parameters())])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_frozen_stages_stay_through_a_step():
    model = vit(frozen_stages=1, drop_path_rate=0.5, layer_scale=0.1).train()
    assert not model.blocks[0].drop_path.training
    assert model.blocks[1].drop_path.training
    before = {k: v.clone() for k, v in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    model(image((32, 32), batch=8))[0].square().sum().backward()
    optimizer.step()
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed
    assert all(k.startswith("blocks.1.") for k in changed)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    model = vit(window_size=2)
    exact = model(image((40, 64)))[0]
    out = model.to(dtype)(image((40, 64)).to(dtype))[0]
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), exact, atol=0.1, rtol=0.1)


def test_sizes_are_those_of_deit_iii():
    """Parameters in millions as timm counts them at 224 x 224, a classifier of 1000 classes included."""
    for name, millions in (("small", 22.06), ("medium", 38.85), ("base", 86.59), ("large", 304.37)):
        with torch.device("meta"):
            model = ViTFDAM(name, att_inv=False, freq_scale=False)
        dim = ARCHS[name]["embed_dims"]
        classifier = 1000 * (dim + 1) + 2 * dim + dim  # head, norm, class token
        assert round((sum(p.numel() for p in model.parameters()) + classifier) / 1e6, 2) == millions


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"arch": "tiny"}, "arch must be one of small, medium, base, large, or a dict, got 'tiny'"),
        ({"arch": {"embed_dims": 64}}, "keys embed_dims, depth, num_heads, got embed_dims"),
        ({"img_size": 100}, "multiple of patch_size = 16, got 100"),
        ({"window_size": -1}, "window_size must be at least 0"),
        ({"global_blocks": [2]}, r"global_blocks must be some of 0 to 1, got \(2,\)"),
        ({"out_indices": [-1]}, "out_indices must be some of 0 to 1"),
        ({"out_indices": []}, "at least one block"),
        ({"frozen_stages": 3}, "frozen_stages must be -1 to 2, got 3"),
    ],
)
def test_bad_arguments(settings, message):
    with pytest.raises(ValueError, match=message):
        vit(**settings)


def test_unknown_keyword():
    with pytest.raises(TypeError, match=r"ViTFDAM.*pretrained"):
        build_backbone(dict(type="ViTFDAM", pretrained="x.pth"))
