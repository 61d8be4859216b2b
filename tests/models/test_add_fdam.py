"""add_fdam: the documented Swin example as it stands in the docs, and the formula on a small block."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from fdam_formula import (
    NEW,
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
from mmcv import Config
from mmcv.runner import build_optimizer
from mmdet.models.backbones import SwinTransformer
from mmrotate.datasets.builder import ROTATED_DATASETS
from mmrotate.models.builder import ROTATED_BACKBONES, build_backbone, build_detector
from scripts import ROOT
from torch import nn
from torch.nn import functional as F

from fdam_rotate.models.layers import FreqScale, add_fdam
from fdam_rotate.models.layers.add_fdam import invert, scale_tokens

PAGE = ROOT / "docs" / "add_fdam.md"
SWIN = dict(embed_dims=64, depths=(2, 1), num_heads=(2, 4), strides=(4, 2), window_size=4, out_indices=(0, 1))


def page_blocks():
    """The page's Python: the backbone, and the config that uses it."""
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module", autouse=True)
def swin_fdam():
    """Run the page's first code block, which registers SwinFDAM."""
    code = page_blocks()[0]
    assert len(code.splitlines()) < 30
    names: dict = {}
    exec(compile(code, str(PAGE), "exec"), names)
    yield names["SwinFDAM"]
    ROTATED_BACKBONES.module_dict.pop("SwinFDAM")


def swin(name="SwinFDAM", **settings):
    torch.manual_seed(0)
    model = build_backbone(dict(type=name, **SWIN, **settings))
    model.init_weights()
    model.eval()  # mmdet's Swin returns None from it
    return model


def image(size=(36, 44)):
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))


def test_swin_keeps_its_keys_and_starts_as_swin():
    ours, plain = swin(), SwinTransformer(**SWIN)
    plain.eval()
    missing, unexpected = ours.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert {key for key in ours.state_dict() if is_new(key)} == set(missing)
    blocks = 3
    assert len(missing) == blocks * (8 + 2 * 5)
    for a, b in zip(ours(image()), plain(image()), strict=True):
        assert a.shape == b.shape
        assert 0 < (a - b).abs().max() < 1e-3
    silence(ours)
    for a, b in zip(ours(image()), plain(image()), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_the_pages_config_trains(tmp_path):
    """As printed, the folder of ``_base_`` and the pretrained file apart: a detector, its data set and optimizer."""
    code = page_blocks()[1].replace('"configs/', f'"{PAGE.parents[1]}/configs/')
    (tmp_path / "swin_t_fdam.py").write_text(code.replace(', "swin_fdam"', ""))
    cfg = Config.fromfile(str(tmp_path / "swin_t_fdam.py"))
    cfg.model.backbone.init_cfg = None
    model = build_detector(cfg.model)
    assert type(model.backbone).__name__ == "SwinFDAM"
    levels = model.extract_feat(image((64, 64)))
    assert [tuple(x.shape) for x in levels] == [(2, 256, n, n) for n in (16, 8, 4, 2, 1)]
    assert cfg.data.train.type in ROTATED_DATASETS
    groups = build_optimizer(model, cfg.optimizer).param_groups
    fast = {id(p) for group in groups if group["lr"] == 2 * cfg.optimizer.lr for p in group["params"]}
    assert fast == {id(p) for name, p in model.named_parameters() if "freq_scale" in name}


def test_swin_keeps_small_starts_after_init_weights():
    assert_small_start(swin(init_cfg=None))


@pytest.mark.parametrize("size", [(32, 32), (33, 47)])
def test_swin_any_size_and_every_gradient(size):
    model = swin()
    model.train()
    loss = sum(((out - 1) ** 2).mean() for out in model(image(size)))
    loss.backward()
    assert_gradients(model, only_new=True)


def test_swin_checkpointing_with_two_sizes_before_backward():
    """A recomputed block must scale by its own image's grid, not by that of the last call."""
    grads = []
    for with_cp in (False, True):
        model = strengthen(swin(with_cp=with_cp))
        model.train()
        for module in model.modules():
            if hasattr(module, "drop_prob"):
                module.drop_prob = 0.0
        first, second = model(image((32, 64)))[-1], model(image((64, 32)))[-1]
        (first.square().mean() + second.square().mean() * 2).backward()
        grads.append([p.grad for p in model.parameters()])
    for a, b in zip(*grads, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("part", ["freq_scale", "gamma"])
def test_deep_copy_is_independent(part):
    """The copy's hooks use the copy's parameters."""
    model = strengthen(swin())
    twin = copy.deepcopy(model)
    before = model(image())[-1]
    torch.testing.assert_close(twin(image())[-1], before)
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            if part in name:
                parameter.mul_(-1)
    assert not torch.allclose(twin(image())[-1], before, atol=1e-3)
    torch.testing.assert_close(model(image())[-1], before)


class Attention(nn.Module):
    """Plain attention as timm has it."""

    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x, H=None, W=None):
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        y = (q @ k.transpose(-2, -1) * (c // self.heads) ** -0.5).softmax(-1) @ v
        return self.proj(y.transpose(1, 2).reshape(b, n, c))


class Block(nn.Module):
    def __init__(self, dim=16, heads=2, attention=Attention):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(dim), attention(dim, heads)
        self.norm2, self.mlp = nn.LayerNorm(dim), nn.Sequential(nn.Linear(dim, 8), nn.GELU(), nn.Linear(8, dim))

    def forward(self, x, H=None, W=None):
        x = x + self.attn(self.norm1(x), H, W)
        return x + self.mlp(self.norm2(x))


def block_by_formula(plain, block, x, hw, heads=2):
    """The published block: attention with AttInv, FreqScale in both branches; the class token is not scaled.

    ``plain`` has the weights of ``block`` without its hooks.
    """
    z = plain.norm1(x)
    q, k, v = plain.attn.qkv(z).chunk(3, dim=-1)
    y = softmax_attention(q, k, v, heads)
    a = plain.attn.proj(invert_by_formula(block.attn, z, y, v, heads))
    x = x + scale_tokens_by_formula(block.freq_scale_1, a, hw)
    return x + scale_tokens_by_formula(block.freq_scale_2, plain.mlp(plain.norm2(x)), hw)


@pytest.mark.parametrize(
    ("hw", "tokens", "grid"),
    [(("H", "W"), 35, (5, 7)), (("H", "W"), 36, (5, 7)), (None, 9, (3, 3)), (None, 10, (3, 3))],
)
def test_block_equals_the_formula(hw, tokens, grid):
    torch.manual_seed(0)
    plain = Block()
    block = strengthen(add_fdam(copy.deepcopy(plain), 16, 2, hw=hw))
    x = torch.randn(2, tokens, 16)
    args = grid if hw else ()
    torch.testing.assert_close(block(x, *args), block_by_formula(plain, block, x, grid), atol=1e-5, rtol=1e-4)


def test_each_call_has_its_own_grid():
    torch.manual_seed(0)
    plain = Block()
    block = strengthen(add_fdam(copy.deepcopy(plain), 16, 2, hw=("H", "W")))
    x = torch.randn(2, 12, 16)
    for grid in ((3, 4), (4, 3), (2, 6)):
        torch.testing.assert_close(block(x, *grid), block_by_formula(plain, block, x, grid), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_dtype_is_kept(dtype):
    block = strengthen(add_fdam(Block(), 16, 2))
    x = torch.randn(2, 9, 16)
    exact = block(x)
    half = block.to(dtype)(x.to(dtype))
    assert half.dtype == dtype
    torch.testing.assert_close(half.float(), exact, atol=0.1, rtol=0.1)


def test_switches():
    x = torch.randn(1, 9, 16)
    torch.manual_seed(0)
    plain = Block()
    for settings, names in (
        ({"att_inv": False}, {"freq_scale_1", "freq_scale_2"}),
        ({"freq_scale": False}, NEW - {"freq_scale_1", "freq_scale_2"}),
    ):
        block = add_fdam(copy.deepcopy(plain), 16, 2, **settings)
        new = {part for key in block.state_dict() for part in key.split(".") if part in NEW}
        assert new == names
        assert not torch.allclose(strengthen(block)(x), plain(x), atol=1e-3)


class SplitAttention(Attention):
    """Values of their own, and maps (B, C, H, W) in and out."""

    def __init__(self, dim, heads):
        super().__init__(dim, heads)
        self.qk, self.v, self.out = nn.Linear(dim, 2 * dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        del self.qkv, self.proj

    def forward(self, x):
        b, c, h, w = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        q, k = self.qk(tokens).chunk(2, dim=-1)
        y = (q @ k.transpose(1, 2) / c**0.5).softmax(-1) @ self.v(tokens)
        return self.out(y).transpose(1, 2).reshape(b, c, h, w)


def test_other_names_and_maps():
    torch.manual_seed(0)
    block = nn.Module()
    block.mixer, block.ffn = SplitAttention(16, 1), nn.Conv2d(16, 16, 1)
    plain = copy.deepcopy(block)
    add_fdam(block, 16, 2, attention="mixer", branches=("mixer", "ffn"), qkv="v", proj="out")
    strengthen(block)
    x = torch.randn(2, 16, 3, 5)
    scaled = freq_scale_by_formula(block.freq_scale_2, plain.ffn(x))
    torch.testing.assert_close(block.ffn(x), scaled, atol=1e-5, rtol=1e-4)
    tokens = x.flatten(2).transpose(1, 2)
    q, k = plain.mixer.qk(tokens).chunk(2, dim=-1)
    v = plain.mixer.v(tokens)
    y = (q @ k.transpose(1, 2) / 4).softmax(-1) @ v
    mixed = plain.mixer.out(invert_by_formula(block.mixer, tokens, y, v, heads=2)).transpose(1, 2).reshape(x.shape)
    scaled = freq_scale_by_formula(block.freq_scale_1, mixed)
    torch.testing.assert_close(block.mixer(x), scaled, atol=1e-5, rtol=1e-4)


class Bypass(Attention):
    """Uses its projection's weights without calling it."""

    def forward(self, x, H=None, W=None):
        return F.linear(self.qkv(x)[..., -x.shape[-1] :], self.proj.weight)


class Unasked(Attention):
    def forward(self, x, H=None, W=None):
        return self.proj(x)


@pytest.mark.parametrize(("kind", "message"), [(Bypass, "did not call its projection"), (Unasked, "before its values")])
def test_attention_that_calls_no_modules_is_reported(kind, message):
    block = add_fdam(Block(attention=kind), 16, 2)
    with pytest.raises(RuntimeError, match=message):
        block(torch.randn(1, 4, 16))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attention": "w_msa"}, "Block has no module 'w_msa'; it has norm1, attn, norm2, mlp"),
        ({"branches": ("attn", "ffn")}, "no module 'ffn'"),
        ({"proj": "out"}, "Attention has no module 'out'; it has qkv, proj"),
        ({"hw": "hw_shape"}, "'attn' takes no argument 'hw_shape'; it takes x, H, W"),
        ({"num_heads": 3}, "num_heads must divide dim, got dim=16 and num_heads=3"),
        ({"dim": 24}, "group must divide dim"),
    ],
)
def test_bad_arguments(settings, message):
    with pytest.raises(ValueError, match=message):
        add_fdam(Block(), **{"dim": 16, "num_heads": 2, **settings})


def test_twice_and_wrong_tokens():
    block = add_fdam(Block(), 16, 2)
    with pytest.raises(ValueError, match="has FreqScale already"):
        add_fdam(block, 16, 2)
    with pytest.raises(ValueError, match="has AttInv already"):
        add_fdam(block, 16, 2, freq_scale=False)
    with pytest.raises(ValueError, match="6 tokens are no square grid"):
        block(torch.randn(1, 6, 16))
    with pytest.raises(ValueError, match="5 tokens cannot fill a grid of 2 x 3"):
        scale_tokens(FreqScale(16), torch.randn(1, 5, 16), (2, 3))
    with pytest.raises(ValueError, match="one shape"):
        invert(block.attn, torch.randn(1, 6, 16), torch.randn(1, 6, 16), torch.randn(1, 3, 16))
