"""Spectra, ranks, costs and timing, each on a case whose answer is known by hand."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from scripts import ROOT
from torch import nn

from fdam_rotate.apis.analysis import pictures
from fdam_rotate.apis.analysis.benchmark import _status, benchmark, make_call, peak_memory
from fdam_rotate.apis.analysis.features import (
    default_layers,
    has_fdam,
    list_images,
    load_images,
    record_layers,
    to_maps,
    without_fdam,
)
from fdam_rotate.apis.analysis.flops import count_flops, detector_costs
from fdam_rotate.apis.analysis.pictures import draw_ranks, draw_spectra
from fdam_rotate.apis.analysis.rank import LayerRank, effective_rank, layer_ranks, mean_cosine_similarity
from fdam_rotate.apis.analysis.runs import join_layers, layer_names, layer_table, to_json
from fdam_rotate.apis.analysis.spectrum import (
    LayerSpectrum,
    high_frequency_energy,
    layer_spectra,
    radial_amplitude,
    radius_grid,
)
from fdam_rotate.apis.runtime import find_device
from fdam_rotate.dota.errors import DotaError, ImageReadError


def wave(height: int, width: int, down: int, across: int) -> torch.Tensor:
    """(1, 1, H, W): a cosine with that many periods down and across."""
    v, u = (torch.arange(n, dtype=torch.float64) / n for n in (height, width))
    return torch.cos(2 * math.pi * (down * v[:, None] + across * u))[None, None]


# ---- spectrum --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(32, 32), (32, 48), (31, 33), (9, 20)])
def test_a_pure_wave_has_its_energy_at_one_radius(height, width):
    down, across = height // 4, 1
    radius = math.hypot(down / height * 2, across / width * 2)  # Nyquist is half a period a pixel
    rings = 8
    profile = radial_amplitude(3 + wave(height, width, down, across), rings)
    ring = math.ceil(radius * rings) - 1
    others = [i for i in range(rings) if i != ring]
    assert profile[ring] > 0.01
    assert profile[others].nan_to_num().abs().max() < 1e-12, "the mean of 3 is in no ring"


def test_radius_grid_by_hand():
    grid = radius_grid(4, 4)
    assert grid.shape == (4, 3)
    expected = [[0, 0.5, 1], [0.5, math.sqrt(0.5), math.sqrt(1.25)], [1, math.sqrt(1.25), math.sqrt(2)]]
    assert torch.allclose(grid[:3], torch.tensor(expected, dtype=torch.float64))
    assert torch.equal(grid[3], grid[1])


def test_radial_amplitude_equals_the_mean_over_the_full_spectrum():
    torch.manual_seed(0)
    for size in ((12, 12), (11, 15)):
        maps = torch.randn(2, 3, *size, dtype=torch.float64)
        full = torch.fft.fft2(maps, norm="ortho").abs().mean((0, 1))
        v, u = (torch.fft.fftfreq(n, dtype=torch.float64) * 2 for n in size)
        radius = torch.hypot(v[:, None], u[None])
        for ring, value in enumerate(radial_amplitude(maps, 5)):
            inside = (radius > ring / 5 + 1e-9) & (radius <= (ring + 1) / 5 + 1e-9)
            assert value.item() == pytest.approx(full[inside].mean().item(), rel=1e-9)


def test_high_frequency_energy_of_two_waves_is_the_share_of_their_squares():
    maps = 7 + 3 * wave(64, 64, 2, 0) + 4 * wave(64, 64, 0, 24)  # radii 1/16 and 3/4: energies 9 and 16
    assert high_frequency_energy(maps) == pytest.approx(16 / 25)
    assert high_frequency_energy(maps, cutoff=0.8) == pytest.approx(0, abs=1e-9)
    assert high_frequency_energy(maps, cutoff=0.01) == pytest.approx(1)
    assert high_frequency_energy(torch.full((1, 2, 8, 8), 5.0)) == 0
    noise = torch.randn(4, 8, 128, 128, generator=torch.Generator().manual_seed(0))
    assert high_frequency_energy(noise) == pytest.approx(
        1 - math.pi / 16, abs=0.01
    )  # all but a disc of radius 1/2 in 2x2


def test_waves_on_the_borders_of_the_rings():
    """A wave of four pixels has exactly half of Nyquist: not above it, and in the inner one of two rings."""
    maps = wave(32, 32, 8, 0)
    assert high_frequency_energy(maps) == pytest.approx(0, abs=1e-12)
    assert high_frequency_energy(maps, cutoff=0.499) == pytest.approx(1)
    inner, outer = radial_amplitude(maps, 2)
    assert inner > 0.01 > 1e-12 > outer


def test_rings_of_a_map_and_their_centres():
    """Half as many as places along the shorter side, at most 32."""
    for height, width, rings in ((80, 96, 32), (64, 70, 32), (20, 96, 10), (3, 9, 1), (1, 1, 1)):
        (layer,) = layer_spectra(Channels(), [torch.randn(1, 2, height, width)], ["backbone"])
        assert len(layer.radii) == rings
        np.testing.assert_allclose(layer.radii, [(k + 0.5) / rings for k in range(rings)])


# ---- rank ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_effective_rank_of_equal_singular_values_is_their_number(rank):
    torch.manual_seed(rank)
    left, _ = torch.linalg.qr(torch.randn(50, rank, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(20, rank, dtype=torch.float64))
    assert effective_rank(5 * left @ right.T) == pytest.approx(rank, rel=1e-6)


def test_effective_rank_of_unequal_singular_values():
    # values 3 and 1: p = 3/4, 1/4; exp(-(3/4 ln 3/4 + 1/4 ln 1/4)) = 4 / 3^(3/4)
    assert effective_rank(torch.diag(torch.tensor([3.0, 1.0]))) == pytest.approx(4 / 3**0.75)
    assert effective_rank(torch.zeros(4, 3)) == 0
    assert effective_rank(torch.ones(9, 5)) == pytest.approx(1)


@pytest.mark.parametrize("shape", [(30000, 6), (6, 30000), (8192, 3), (8193, 3), (5, 5), (1, 4)])
def test_effective_rank_equals_that_of_all_singular_values_at_once(shape):
    features = torch.randn(shape, generator=torch.Generator().manual_seed(2)) * torch.linspace(0.001, 1, shape[1])
    values = np.linalg.svd(features.double().numpy(), compute_uv=False)
    p = values / values.sum()
    assert effective_rank(features) == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-9)


def test_small_singular_values_are_not_lost():
    # 1 and 1e-10: their squares, 1 and 1e-20, could not be told apart in a Gram matrix; p log p = 1e-10 * 23.03
    assert effective_rank(torch.diag(torch.tensor([1, 1e-10]).double())) - 1 == pytest.approx(1e-10 * 24.03, rel=1e-3)


@pytest.mark.parametrize("side", [31, 32, 33, 40])
def test_rank_counts_all_places_whatever_the_size(side):
    """320 channels on 33 x 33 places once were sampled at 289 of them, and could not reach 320."""
    features = torch.randn(1, 320, side, side, generator=torch.Generator().manual_seed(0))
    (layer,) = layer_ranks(Channels(), [features], ["backbone"])
    assert layer.shape == (320, side, side)
    assert layer.effective_rank > 289
    assert layer.relative_rank == layer.effective_rank / 320


def test_ranks_are_means_over_images():
    generator = torch.Generator().manual_seed(0)
    flat = torch.ones(1, 3, 6, 6)  # one rank, one direction
    noise = torch.randn(1, 3, 6, 6, generator=generator)
    (layer,) = layer_ranks(Channels(), [flat, noise, flat], ["backbone"])
    rows = noise[0].flatten(1).T
    assert layer.effective_rank == pytest.approx((2 + effective_rank(rows)) / 3)
    assert layer.relative_rank == pytest.approx(layer.effective_rank / 3)
    assert layer.cosine == pytest.approx((2 + mean_cosine_similarity(rows)) / 3)
    assert math.isnan(mean_cosine_similarity(torch.zeros(5, 3)))
    assert mean_cosine_similarity(torch.tensor([[1.0, 0], [0, 2.0]])) == 0, "two are enough"


class Channels(nn.Module):
    """A detector whose backbone hands on what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Identity()
        self.head = nn.Identity()
        self.scores = nn.AdaptiveAvgPool2d(1)

    def extract_feat(self, image: torch.Tensor) -> torch.Tensor:
        return self.backbone(image)


def test_mean_cosine_similarity_equals_the_plain_double_loop():
    rows = torch.randn(17, 5, generator=torch.Generator().manual_seed(1)).double()
    units = rows / rows.norm(dim=1, keepdim=True)
    pairs = [float(units[i] @ units[j]) for i in range(17) for j in range(17) if i != j]
    assert mean_cosine_similarity(rows) == pytest.approx(sum(pairs) / len(pairs))
    assert mean_cosine_similarity(torch.eye(4)) == pytest.approx(0)
    assert mean_cosine_similarity(torch.tensor([[1.0, 0], [2, 0], [0, 0]])) == pytest.approx(1), "zeros left out"
    assert math.isnan(mean_cosine_similarity(torch.ones(1, 3)))


# ---- features --------------------------------------------------------------------------------------------------------


class Tiny(nn.Module):
    """A detector with one blurring block, one block that passes on, and a neck of two levels."""

    with_neck = True

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.block1 = nn.ModuleList([nn.AvgPool2d(3, 1, 1), nn.Identity()])
        self.neck = nn.Module()
        self.neck.forward = lambda x: (x, x[..., ::2, ::2])
        self.neck.lf_gamma = nn.Parameter(torch.ones(1))

    def extract_feat(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        for block in self.backbone.block1:
            image = block(image)
        return self.neck(image)


def test_layers_are_measured_in_order_and_a_blur_loses_high_frequencies():
    model = Tiny()
    layers = default_layers(model)
    assert layers == ["backbone.block1.0", "backbone.block1.1", "neck"]
    images = [torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    spectra = layer_spectra(model, images, layers)
    assert [s.name for s in spectra] == ["backbone.block1.0", "backbone.block1.1", "neck.0", "neck.1"]
    assert [s.shape for s in spectra] == [(3, 32, 32)] * 3 + [(3, 16, 16)]
    assert spectra[0].high_energy == spectra[1].high_energy
    expected = np.mean([high_frequency_energy(nn.AvgPool2d(3, 1, 1)(x)) for x in images])
    assert spectra[0].high_energy == pytest.approx(expected)
    assert expected < 0.3 < high_frequency_energy(images[0])
    assert [len(s.log_amplitude) for s in spectra] == [16, 16, 16, 8]
    assert all(s.log_amplitude[0] == 0 and np.isfinite(s.log_amplitude).all() for s in spectra)
    ranks = layer_ranks(model, images, layers)
    assert [r.shape for r in ranks] == [s.shape for s in spectra]
    assert all(r.relative_rank == pytest.approx(r.effective_rank / 3) for r in ranks)
    with pytest.raises(
        DotaError, match=r"no layer nothing in Tiny; it has backbone\.block1\.0, backbone\.block1\.1, neck"
    ):
        record_layers(model, images[0], ["nothing"], lambda *_: None)
    with pytest.raises(DotaError, match="no maps from head: only layers of backbone and neck run"):
        record_layers(Channels(), images[0], ["backbone", "head"], lambda *_: None)


def test_a_layer_without_maps_is_refused():
    model = Channels()
    model.backbone = nn.Flatten()
    with pytest.raises(DotaError, match="no maps from backbone"):
        record_layers(model, torch.zeros(1, 3, 8, 8), ["backbone"], lambda *_: None)


def named(*names: str) -> nn.Module:
    """A detector of layers that pass on, at these names; only their names count."""
    root = nn.Module()
    for name in names:
        place, parts = root, name.split(".")
        for part in parts[:-1]:
            if part not in dict(place.named_children()):
                place.add_module(part, nn.Module())
            place = getattr(place, part)
        place.add_module(parts[-1], nn.Identity())
    return root


@pytest.mark.parametrize(
    "blocks",
    [
        ["block1.0", "block1.1", "block4.2"],
        ["blocks.0", "blocks.11"],
        ["layers.0.1.0", "layers.3.1.2"],
        ["stages.0.blocks.1", "stages.3.blocks.0"],
        ["layer1.0", "layer4.2"],
    ],
    ids=["LSKNet", "ViT", "MiT", "Swin", "ResNet"],
)
def test_blocks_are_known_by_the_names_that_backbones_give_them(blocks):
    expected = [f"backbone.{name}" for name in blocks]
    others = ["backbone.norm1", "backbone.patch_embed1", "neck"]
    inner = [f"{name}.attn.proj" for name in expected]
    assert default_layers(named(*expected, *others, *inner)) == expected
    with pytest.raises(DotaError, match="no block of Module is known by its name; name layers with --layers"):
        default_layers(named(*others))


def test_layers_that_are_meant_are_named_first():
    model = named(*(f"backbone.block{stage}.{k}" for stage in (1, 2) for k in range(4)), "neck")
    with pytest.raises(DotaError) as caught:
        record_layers(model, torch.zeros(1, 3, 8, 8), ["backbone.block2.33"], lambda *_: None)
    told = str(caught.value).partition("it has ")[2].removesuffix(" and others").split(", ")
    assert told[0] == "backbone.block2.3"
    assert len(told) == len(set(told)) == 5


def test_recording_leaves_no_hook_behind():
    model, seen = Tiny(), []
    for _ in range(2):
        record_layers(model, torch.zeros(1, 3, 8, 8), default_layers(model), lambda name, _: seen.append(name))
    assert seen == ["backbone.block1.0", "backbone.block1.1", "neck.0", "neck.1"] * 2
    with pytest.raises(ZeroDivisionError):
        record_layers(model, torch.zeros(1, 3, 8, 8), default_layers(model), lambda *_: 1 / 0)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_device_that_is_not_there_is_refused():
    assert find_device("cpu") == torch.device("cpu")
    with pytest.raises(DotaError, match=r"no device cuda:99: .*use --device cpu"):
        find_device("cuda:99")


def ranks_of(names: str, value: float = 0.5) -> list[LayerRank]:
    return [LayerRank(name, (len(name), 2, 2), 1.0, value, 0.1) for name in names.split()]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("1.0 1.1 2.0 neck", "1.0 1.1 2.0 neck", "1.0 1.1 2.0 neck"),
        ("1.0 1.1 2.0 neck", "1.0 1.1 1.2 2.0 2.1 neck", "1.0 1.1 1.2 2.0 2.1 neck"),
        ("1.0 1.1 1.2 2.0 2.1 neck", "1.0 2.0 neck", "1.0 1.1 1.2 2.0 2.1 neck"),
        ("1.0 2.0 neck", "a b neck", "1.0 2.0 a b neck"),
        ("1.0", "a b", "1.0 a b"),
    ],
)
def test_layers_of_two_models_meet_by_name(first, second, expected):
    runs = {"one": ranks_of(first), "two": ranks_of(second)}
    assert layer_names(runs) == expected.split()
    for name, group in join_layers(runs):
        for layer, names in zip(group, (first, second), strict=True):
            assert (layer.name if layer else None) == (name if name in names.split() else None)


def test_table_of_models_with_different_layers():
    runs = {
        "one": ranks_of("1.0 neck"),
        "other": [*ranks_of("1.0 1.1", 0.25), LayerRank("neck", (9, 1, 1), 1, 0.75, 0)],
    }
    lines = layer_table(runs, lambda layer: f"{layer.relative_rank}")
    assert [line.split() for line in lines] == [
        ["layer", "shape", "one", "other"],
        ["1.0", "3x2x2", "0.5", "0.25"],
        ["1.1", "3x2x2", "-", "0.25"],
        ["neck", "4x2x2", "/", "9x1x1", "0.5", "0.75"],
    ]
    assert len(set(map(len, lines))) == 1


class Plain(nn.Module):
    """A detector whose one block passes on."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.block1 = nn.ModuleList([nn.Identity()])

    def extract_feat(self, image: torch.Tensor) -> torch.Tensor:
        return self.backbone.block1[0](image)


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Runs over two images of one colour each, by models of these configs; what each model was fed with."""
    from fdam_rotate.apis.analysis import runs

    (tmp_path / "images").mkdir()
    for name, colour in (("a", (10, 20, 30)), ("b", (40, 50, 60))):  # blue, green, red
        cv2.imwrite(str(tmp_path / "images" / f"{name}.png"), np.full((8, 8, 3), colour, np.uint8))
    norms = {"own": {"mean": [1, 2, 3], "std": [1, 1, 2], "to_rgb": True}}

    def build(config: Path, checkpoint: Path | None, *, unsafe: bool) -> tuple[nn.Module, dict]:
        cfg = {"img_norm_cfg": norms[config.stem]} if config.stem in norms else {}
        return (Tiny() if "fdam" in str(config) else Plain()).eval(), cfg

    monkeypatch.setattr(runs, "build_model", build)

    def run(config: str, second: str | None = None, **options) -> dict[str, list[torch.Tensor]]:
        return runs.measure_runs(
            lambda model, images, layers: [image.clone() for image in images], Path(config), None,
            tmp_path / "images", tmp_path / "out", names=["table.json"], overwrite=True, device="cpu",
            second=None if second is None else [Path(second), Path("c.pth")], **options,
        )  # fmt: skip

    return run


def test_models_are_fed_with_what_their_configs_say(measured):
    """Without a word of theirs, ImageNet's mean and deviation of red, green and blue."""
    imagenet = [(30 - 123.675) / 58.395, (20 - 116.28) / 57.12, (10 - 103.53) / 57.375]
    found = measured("plain.py", "own.py", size=4)
    assert list(found) == ["plain", "own"]
    assert [len(images) for images in found.values()] == [2, 2]
    for images, first in zip(found.values(), (imagenet, [29, 18, 3.5]), strict=True):
        assert images[0].shape == (1, 3, 4, 4)
        np.testing.assert_allclose(images[0][0, :, 1, 1], first, rtol=1e-6)
    found = measured("own.py", "plain.py", size=4, max_images=1)
    assert [len(images) for images in found.values()] == [1, 1]
    for images in found.values():  # the second has no word of its own, and takes the first's
        assert images[0][0, :, 1, 1].tolist() == [29, 18, 3.5]


def test_names_of_runs(measured):
    assert list(measured("plain.py")) == ["plain"]
    assert list(measured("fdam.py")) == ["with FDAM", "FDAM off"]
    assert list(measured("fdam.py", "plain.py")) == ["fdam", "plain"]
    assert list(measured("one/own.py", "two/own.py")) == ["own", "own (2)"]


def test_layers_are_looked_for_in_both_models_before_any_is_measured(measured):
    for first, second in (("plain.py", None), ("plain.py", "fdam.py"), ("fdam.py", "plain.py")):
        missing = "neck" if "plain.py" in (first, second) and first != second else "nothing"
        with pytest.raises(DotaError, match=f"no layer {missing} in Plain"):
            measured(first, second, layers=[missing])


def test_the_images_are_not_the_output(measured, tmp_path, monkeypatch):
    from fdam_rotate.apis.analysis import runs

    seen = []
    monkeypatch.setattr(runs, "claim_folder", lambda out, names, **words: seen.append(words["inputs"]))
    measured("plain.py", "own.py")
    assert seen == [[Path("plain.py"), None, tmp_path / "images", Path("own.py"), Path("c.pth")]]


def test_json_has_null_for_what_is_no_number():
    rows = {"a": [{"cosine": float("nan"), "shape": (1, 2)}, [float("inf"), 0.5]]}
    text = to_json(rows)
    assert json.loads(text, parse_constant=pytest.fail) == {"a": [{"cosine": None, "shape": [1, 2]}, [None, 0.5]]}


def test_a_layer_has_one_place_and_one_colour_in_pictures(monkeypatch, tmp_path):
    """One model with blocks that the other lacks, in the middle and at the end."""
    figures = []
    monkeypatch.setattr(pictures, "_save", lambda figure, _: figures.append(figure))
    names = {"one": ["1.0", "2.0", "neck"], "two": ["1.0", "1.1", "2.0", "neck", "neck2"]}
    union = names["two"]
    draw_ranks(tmp_path / "r.png", {run: ranks_of(" ".join(layers)) for run, layers in names.items()})
    for axis in figures[0].axes:
        assert [list(line.get_xdata()) for line in axis.lines] == [[0, 2, 3], [0, 1, 2, 3, 4]]
        value = 0.5 if "rank" in axis.get_title() else 0.1
        assert [list(line.get_ydata()) for line in axis.lines] == [[value] * 3, [value] * 5]
        assert [tick.get_text() for tick in axis.get_xticklabels()] == union
    radii = np.array([0.25, 0.75])
    draw_spectra(
        tmp_path / "s.png",
        {
            run: [LayerSpectrum(n, (1, 4, 4), radii, np.array([0, union.index(n)]), 0.5) for n in layers]
            for run, layers in names.items()
        },
    )
    one, two, energy = figures[1].axes
    colours = {union[int(line.get_ydata()[1])]: line.get_color() for line in two.lines}
    assert len({tuple(colour) for colour in colours.values()}) == 5
    assert all(list(line.get_xdata()) == [0.25, 0.75] for line in (*one.lines, *two.lines))
    for line in one.lines:
        assert tuple(line.get_color()) == tuple(colours[union[int(line.get_ydata()[1])]])
    assert [list(line.get_xdata()) for line in energy.lines] == [[0, 2, 3], [0, 1, 2, 3, 4]]
    (legend,) = figures[1].legends
    for text, handle in zip(legend.get_texts(), legend.get_lines(), strict=True):
        assert tuple(handle.get_color()) == tuple(colours[text.get_text()])
    assert [text.get_text() for text in legend.get_texts()] == union


def test_pictures_are_written(tmp_path):
    model = Tiny()
    images = [torch.randn(1, 3, 32, 32)]
    draw_spectra(tmp_path / "s.png", {n: layer_spectra(model, images, default_layers(model)) for n in "ab"})
    draw_ranks(tmp_path / "r.png", {n: layer_ranks(model, images, default_layers(model)) for n in "ab"})
    for name in ("s.png", "r.png"):
        assert cv2.imread(str(tmp_path / name)).std() > 10


def test_a_flat_layer_has_a_spectrum_too():
    model = Tiny()
    (flat, *_) = layer_spectra(model, [torch.zeros(1, 3, 16, 16)], default_layers(model))
    assert flat.high_energy == 0
    assert np.isfinite(flat.log_amplitude).all()


def test_tokens_become_maps_of_the_images_shape():
    maps = torch.arange(24.0).view(1, 1, 4, 6)
    assert torch.equal(to_maps(maps.flatten(2).transpose(1, 2), (64, 96)), maps)
    with pytest.raises(DotaError, match="25 tokens"):
        to_maps(torch.zeros(1, 25, 3), (64, 96))
    # patches of 16 pixels, the last ones filled up: 7 rows and 10 columns, whose ratio is not quite the image's
    assert to_maps(torch.zeros(1, 70, 3), (100, 150)).shape == (1, 3, 7, 10)
    with pytest.raises(DotaError, match="1 tokens do not lie on a grid of an image of 1 x 100"):
        to_maps(torch.zeros(1, 1, 3), (1, 100))


def test_fdam_is_switched_off_in_a_copy():
    model = Tiny()
    assert has_fdam(model)
    assert without_fdam(model).neck.lf_gamma.item() == 0
    assert model.neck.lf_gamma.item() == 1
    assert not has_fdam(nn.Linear(1, 1))
    assert not without_fdam(Tiny().train()).training
    for name in ("lf_gamma", "hf_gamma", "complex_weights"):
        layer = nn.Module()
        layer.register_parameter(name, nn.Parameter(torch.ones(2)))
        assert has_fdam(layer)
        assert getattr(without_fdam(layer), name).tolist() == [0, 0]


def test_images_are_cut_mirrored_and_normalised(tmp_path):
    pixels = np.zeros((10, 6, 3), dtype=np.uint8)
    pixels[..., 0], pixels[5, 3] = 30, (60, 90, 120)  # BGR
    cv2.imwrite(str(tmp_path / "b.PNG"), pixels)
    (tmp_path / "notes.txt").write_text("no image")
    (path,) = list_images(tmp_path)
    norm = {"mean": [0, 0, 10], "std": [1, 1, 2], "to_rgb": True}
    (image,) = load_images([path], 4, norm)
    assert image.shape == (1, 3, 4, 4)
    assert image[0, :, 2, 2].tolist() == [120, 90, 25]  # (5, 3) less the corner (3, 1); blue: (60 - 10) / 2
    assert image[0, :, 0, 0].tolist() == [0, 0, 10]
    (image,) = load_images([path], 8, norm)
    assert image.shape == (1, 3, 8, 8)
    columns = np.zeros((8, 6, 3), np.uint8)
    columns[..., 2] = 10 * np.arange(6)  # red
    cv2.imwrite(str(tmp_path / "c.png"), columns)
    (image,) = load_images([tmp_path / "c.png"], 8, {"mean": [0, 0, 0], "std": [1, 1, 1]})
    assert image[0, 0, 0].tolist() == [0, 10, 20, 30, 40, 50, 50, 40], "mirrored; red first, where nothing else is said"
    assert [path.name for path in list_images(tmp_path, 1)] == ["b.PNG"]
    (tmp_path / "a.jpg").write_bytes(b"nothing")
    with pytest.raises(ImageReadError, match=r"a\.jpg"):
        list(load_images([tmp_path / "a.jpg"], 4, norm))
    with pytest.raises(DotaError, match="holds no image"):
        list_images(Path(__file__).parent)
    with pytest.raises(FileNotFoundError):
        list_images(tmp_path / "none")


# ---- costs -----------------------------------------------------------------------------------------------------------


def total(counts: dict) -> float:
    return sum(counts["Global"].values())


def test_multiply_adds_by_hand():
    x = torch.zeros(2, 8, 12, 10)
    conv = nn.Conv2d(8, 16, 3, padding=1)
    assert total(count_flops(conv, lambda: conv(x))) == 2 * 12 * 10 * 16 * 8 * 9
    depthwise = nn.Conv2d(8, 8, 5, stride=2, padding=2, groups=8)
    assert total(count_flops(depthwise, lambda: depthwise(x))) == 2 * 6 * 5 * 8 * 25
    linear = nn.Linear(8, 3)
    assert total(count_flops(linear, lambda: linear(torch.zeros(7, 8)))) == 7 * 8 * 3
    q = torch.zeros(1, 2, 9, 4)
    attention = count_flops(linear, lambda: nn.functional.scaled_dot_product_attention(q, q, q))
    assert total(attention) == 2 * (2 * 9 * 9 * 4), "q k^T and the product with v"


def test_counting_keeps_the_mode():
    model = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))
    for training in (True, False):
        seen = []
        model.train(training)
        count_flops(model, lambda seen=seen: seen.append(model.training))
        assert (seen, model.training) == ([False], training)


def test_all_heads_of_a_detector_count():
    """On 1000 proposals each, whether there is one or several."""

    class Head(nn.Module):
        in_channels, roi_feat_size = 2, (7, 7)

        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2 * 49, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x.flatten(1))

    class Backbone(nn.Conv2d):
        """What runs is counted by its class."""

    class TwoStage(nn.Module):
        with_roi_head = True

        def __init__(self, heads: nn.Module) -> None:
            super().__init__()
            self.backbone, self.rpn_head, self.roi_head = Backbone(3, 2, 1), nn.Conv2d(2, 1, 1), nn.Module()
            self.roi_head.bbox_head = heads

        def extract_feat(self, image: torch.Tensor) -> torch.Tensor:
            return self.backbone(image)

    for number, heads in ((1, Head()), (2, nn.ModuleList([Head(), Head()]))):
        costs = {cost.name: cost for cost in detector_costs(TwoStage(heads), (8, 10))}
        assert costs["backbone"].macs == 80 * 6
        assert costs["heads"].macs == 80 * 2 + number * 1000 * 98 * 3
        assert costs["heads"].params == 3 + number * (98 * 3 + 3)


def test_multiply_adds_of_ffts_by_hand():
    class Both(nn.Module):
        def forward(self, x):
            return torch.fft.irfft2(torch.fft.rfft2(x), s=x.shape[-2:])

    x = torch.zeros(3, 5, 16, 32)
    once = 1.25 * 3 * 5 * 512 * 9  # 1.25 N log2 N with N = 16 * 32 = 2^9, for each of 15 maps
    assert total(count_flops(Both(), lambda: Both()(x))) == pytest.approx(2 * once)
    complex_fft = count_flops(Both(), lambda: torch.fft.fft2(x.to(torch.complex64)))
    assert total(complex_fft) == pytest.approx(2 * once)


@pytest.fixture(scope="module")
def detectors():
    """LSKNet-T Oriented R-CNN, plain and with FDAM, of the published size."""
    from fdam_rotate.apis.analysis.features import build_model

    configs = ROOT / "configs"
    names = ("lsknet/lsk_t_fpn_1x_dota_le90.py", "lsknet_fdam/lsk_t_fdam_fpn_1x_dota_le90.py")
    return [build_model(configs / name)[0] for name in names]


def test_costs_of_a_detector_and_what_fdam_adds(detectors):
    plain, fdam = ({cost.name: cost for cost in detector_costs(model, (128, 128))} for model in detectors)
    for costs, model in zip((plain, fdam), detectors, strict=True):
        assert list(costs) == ["backbone", "neck", "heads", "total"]
        for name in ("params", "macs", "fft_macs"):
            parts = [getattr(costs[part], name) for part in ("backbone", "neck", "heads")]
            assert sum(parts) == getattr(costs["total"], name)
        assert costs["total"].params == sum(p.numel() for p in model.parameters())
    assert plain["total"].fft_macs == 0
    # box head by hand: 1000 proposals through 256*7*7 -> 1024 -> 1024 -> 16 classes and 5 offsets;
    # RPN: 3x3 of 256 to 256, then 3 scores and 18 offsets, on 32, 16, 8, 4 and 2 squared places
    box = 1000 * (256 * 49 * 1024 + 1024 * 1024 + 1024 * 21)
    rpn = sum(side**2 for side in (32, 16, 8, 4, 2)) * (256 * 256 * 9 + 256 * 21)
    assert plain["heads"].macs == fdam["heads"].macs == box + rpn
    # FreqScale: rfft2 and irfft2 of each map, twice in each of the 3 + 3 + 5 + 2 blocks and once on each neck level
    maps = [(32, 32, 6), (64, 16, 6), (160, 8, 10), (256, 4, 4)]
    backbone = sum(2 * count * 1.25 * dim * side**2 * math.log2(side**2) for dim, side, count in maps)
    assert fdam["backbone"].fft_macs == pytest.approx(backbone, rel=1e-6)
    neck = sum(2 * 1.25 * 256 * side**2 * math.log2(side**2) for side in (32, 16, 8, 4))
    assert fdam["neck"].fft_macs == pytest.approx(neck, rel=1e-6)
    assert plain["backbone"].macs < fdam["backbone"].macs - backbone, "the routing and AttInv's maps count too"


def test_costs_do_not_depend_on_whether_anything_is_computed(detectors, monkeypatch):
    """Shapes alone give what a real run gives."""
    import fdam_rotate.apis.analysis.flops as module

    quick = detector_costs(detectors[1], (64, 64))

    class Refuses:
        def __init__(self, **_):
            raise RuntimeError("as mmcv's operators do")

    monkeypatch.setattr(module, "FakeTensorMode", Refuses)
    monkeypatch.setattr(module, "PROPOSALS", 1000)
    assert detector_costs(detectors[1], (64, 64)) == quick


def test_counting_leaves_the_model_as_it_was(detectors):
    """Fixed matrices that FreqScale makes while only shapes are known have no values, and must not be kept."""
    image = torch.randn(1, 3, 72, 104)  # a size that nothing has run at
    detector_costs(detectors[1], (72, 104))
    with torch.no_grad():
        after = detectors[1].extract_feat(image)
        for module in detectors[1].modules():
            if hasattr(module, "impl"):
                module.impl = "dft"
        plain = detectors[1].extract_feat(image)
        for module in detectors[1].modules():
            if hasattr(module, "impl"):
                module.impl = "fft"
    for a, b in zip(after, plain, strict=True):
        assert type(a) is torch.Tensor
        torch.testing.assert_close(a, b)


# ---- benchmark -------------------------------------------------------------------------------------------------------


def test_models_are_timed_in_turns():
    order: list[str] = []

    def call(name: str, seconds: float):
        def run() -> None:
            order.append(name)
            time.sleep(seconds)

        return run

    slow, quick = benchmark(
        {"slow": call("slow", 0.02), "quick": call("quick", 0)}, batch=4, rounds=3, warmup=1, progress=False
    )
    assert order[:8] == ["slow", "quick"] * 4
    assert len(slow.seconds) == 3, "warm-up does not count"
    assert slow.ratio == 1
    assert quick.ratio < 0.5
    assert 50 < slow.images_per_second <= 200


def test_peak_memory_sees_what_is_freed_again():
    size = 64 << 20

    def call() -> None:
        block = np.ones(size, dtype=np.uint8)
        del block

    measured = peak_memory(call)
    if measured is None:
        pytest.skip("this system does not tell the peak memory of a process")
    assert 0.9 * size < measured < 1.5 * size
    assert peak_memory(lambda: None) < 0.2 * size
    pages = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert _status("VmRSS") == pytest.approx(pages, rel=0.01)
    large, small = benchmark({"large": call, "small": lambda: None}, rounds=1, warmup=0, progress=False)
    assert 0.9 * size < large.peak_bytes < 1.5 * size
    assert small.peak_bytes < 0.2 * size


def test_calls_run_the_part_that_they_name():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.Conv2d(3, 2, 1)
            self.seen: list[tuple] = []

        def extract_feat(self, image):
            self.seen.append((tuple(image.shape), self.training, torch.is_grad_enabled()))
            return [self.backbone(image)]

        def forward(self, **inputs):
            self.seen.append((*inputs["img"][0].shape, len(inputs["img_metas"][0])))

    model = Model()
    make_call(model, (8, 16), batch=2)()
    make_call(model, (8, 8), train=True)()
    assert model.seen == [((2, 3, 8, 16), False, False), ((1, 3, 8, 8), True, True)]
    assert model.backbone.weight.grad is None, "gradients are dropped between steps"
    make_call(model, (8, 8), part="backbone")()
    make_call(model, (8, 8), part="detector", batch=2)()
    assert model.seen[2:] == [(2, 3, 8, 8, 2)]
    hook = SimpleNamespace(dtype=None)
    model.backbone.register_forward_hook(lambda _m, _i, out: setattr(hook, "dtype", out.dtype))
    make_call(model, (8, 8), amp=torch.bfloat16)()
    assert hook.dtype == torch.bfloat16
    with pytest.raises(ValueError, match="inference only"):
        make_call(model, (8, 8), part="detector", train=True)
    with pytest.raises(ValueError, match="part must be one of"):
        make_call(model, (8, 8), part="head")


# ---- what FDAM costs -------------------------------------------------------------------------------------------------


def test_the_published_form_computes_the_same_by_its_own_way():
    from fdam_rotate.apis.analysis import fdam_cost
    from fdam_rotate.apis.gpu_check.networks import move_fdam

    small = dict(embed_dims=(16, 32, 80, 128), depths=(1, 1, 1, 1))
    ours, published = (fdam_cost.build_backbone(name, **small).eval() for name in fdam_cost.MODELS[1:])
    move_fdam(ours)
    published.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    calls = []
    original = fdam_cost.published_freq_scale
    fdam_cost.published_freq_scale = lambda layer, x: calls.append(layer) or original(layer, x)
    try:
        with torch.no_grad():
            expected, found = ours(images), published(images)
    finally:
        fdam_cost.published_freq_scale = original
    assert len(calls) == 8  # two in each of four blocks
    for a, b in zip(expected, found, strict=True):
        assert torch.allclose(a, b, atol=1e-4 * float(a.abs().max()))
        assert not torch.equal(a, b)
    with pytest.raises(ValueError, match="expected one of LSKNet-S, LSKNetFDAM-S, published form, got 'LSKNet-T'"):
        fdam_cost.build_backbone("LSKNet-T")


def test_times_by_turns_and_their_ratio():
    from fdam_rotate.apis.analysis.fdam_cost import paired_ratio, time_by_turns

    order = []
    tasks = {name: lambda name=name: order.append(name) for name in ("b", "a")}
    times = time_by_turns(tasks, 2, torch.device("cpu"), warmup=1)
    assert "".join(order) == "abbaab"
    assert {name: len(values) for name, values in times.items()} == {"a": 2, "b": 2}
    # ratios 0.5, 1, 1.5, 2: median 1.25; medians 2.5 of 1..4 and 2
    result = paired_ratio({"a": [1.0, 2.0, 3.0, 4.0], "b": [2.0, 2.0, 2.0, 2.0]}, "a", "b")
    assert (result["ours_value"], result["other_value"], result["ratio"]) == (2.5, 2.0, 1.25)
    assert result["quartiles"] == (0.625, 1.875)
    # the ratios are 1/2, 2 and 5, their median 2; the medians 5 and 2 have another ratio
    result = paired_ratio({"a": [1.0, 8.0, 5.0], "b": [2.0, 4.0, 1.0]}, "a", "b")
    assert (result["ours_value"], result["other_value"], result["ratio"]) == (5.0, 2.0, 2.0)


def test_a_line_of_the_table():
    from fdam_rotate.apis.analysis.fdam_cost import ratio_line

    row = {"what": "step", "ours": "FDAM", "ours_value": 5.04, "other": "plain", "other_value": 2.0, "unit": "ms"}
    line = ratio_line({**row, "ratio": 2.5, "quartiles": (1.25, 3.0)})
    assert line.split() == "step FDAM 5.0 ms plain 2.0 ms ratio 2.500 (1.250 to 3.000)".split()
    assert ratio_line({**row, "ratio": 2.5}).endswith("ratio 2.500")


def test_steps_and_forward_tasks():
    from fdam_rotate.apis.analysis import fdam_cost

    model = fdam_cost.build_backbone("LSKNet-S", embed_dims=(16, 32, 80, 128), depths=(1, 1, 1, 1))
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    before = model.norm4.bias.clone()
    fdam_cost.forward_task(model, images)()
    assert not model.training
    assert torch.equal(model.norm4.bias, before)
    kinds = []
    model.patch_embed1.proj.register_forward_hook(lambda _module, _inputs, out: kinds.append(out.dtype))
    for amp in (None, torch.bfloat16, torch.float16):
        fdam_cost.forward_task(model, images, amp)()
    fdam_cost.step_task(model, images)()
    assert kinds == [torch.float32, torch.bfloat16, torch.float16, torch.float32]
    assert all(parameter.grad is None for parameter in model.parameters()), "each step has its own gradients"
    before = model.norm4.bias.clone()
    fdam_cost.step_task(model, images, torch.bfloat16)()
    assert kinds[4:] == [torch.bfloat16]
    assert model.training
    assert not torch.equal(model.norm4.bias, before)
