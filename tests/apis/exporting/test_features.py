"""Exported models equal the detector, also where FreqScale does much; a wrong export is not kept."""

from __future__ import annotations

import json

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import fdam_rotate.models  # noqa: F401
from fdam_rotate.apis.exporting.errors import ExportError
from fdam_rotate.apis.exporting.features import export_features
from fdam_rotate.dota.errors import OutputExistsError
from fdam_rotate.models.layers.freq_scale import FreqScale

#: Operators that few runtimes have, or have only slow.
UNUSUAL = {"DFT", "STFT", "SplitToSequence", "SequenceAt", "ConcatFromSequence"}


class Detector(nn.Module):
    """What the exporter needs of a detector."""

    def __init__(self, backbone: dict, neck: dict) -> None:
        super().__init__()
        from mmrotate.models import build_backbone, build_neck

        self.backbone, self.neck = build_backbone(backbone), build_neck(neck)

    def extract_feat(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.neck(self.backbone(image))


@pytest.fixture(scope="module")
def detector() -> Detector:
    """A small LSKNetFDAM with FDAMFPN whose filters and gammas are far from zero, as if trained for long."""
    torch.manual_seed(0)
    dims = [16, 32, 80, 128]
    model = Detector(
        dict(type="LSKNetFDAM", embed_dims=dims, depths=[1, 1, 1, 1], mlp_ratios=[2, 2, 2, 2]),
        dict(type="FDAMFPN", in_channels=dims, out_channels=32, num_outs=5),
    )
    for name, parameter in model.named_parameters():
        if name.endswith(("complex_weights", "lf_gamma", "hf_gamma", "layer_scale_1", "layer_scale_2")):
            nn.init.normal_(parameter, std=0.5)
    return model.eval()


@pytest.mark.parametrize("suffix", [".onnx", ".pt"])
def test_exported_model_equals_the_fft_form(detector, tmp_path, suffix):
    before = {k: v.clone() for k, v in detector.state_dict().items()}
    path = tmp_path / f"features{suffix}"
    norm = {"mean": [1.0, 2, 3], "std": [4.0, 5, 6], "to_rgb": True}
    report = export_features(detector, path, (75, 96), batch=2, norm=norm)
    assert report.difference < 1e-4
    assert report.freq_layers == 4 * 2 + 4
    assert [shape for _, shape in report.outputs] == [
        (2, 32, *size) for size in ((19, 24), (10, 12), (5, 6), (3, 3), (2, 2))
    ]
    assert [p.name for p in tmp_path.iterdir()] == [path.name], "one file, no external data"
    assert all(torch.equal(v, before[k]) for k, v in detector.state_dict().items())
    assert {m.impl for m in detector.modules() if isinstance(m, FreqScale)} == {"fft"}

    image = torch.rand(2, 3, 75, 96)
    with torch.no_grad():
        expected = detector.extract_feat(image)
        plain = [x.clone() for x in expected]
    if suffix == ".onnx":
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        assert [x.name for x in session.get_inputs()] == ["image"]
        found = [torch.from_numpy(x) for x in session.run(None, {"image": image.numpy()})]
        model = onnx.load(str(path))
        assert json.loads({p.key: p.value for p in model.metadata_props}["img_norm_cfg"]) == norm
        assert not {node.op_type for node in model.graph.node} & UNUSUAL, "any runtime can run it"
    else:
        found = torch.jit.load(str(path))(image)
    for a, b in zip(plain, found, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4 * max(1.0, float(a.abs().max())), rtol=0)
    # the comparison would see it if FreqScale were left out
    silent = {k: torch.zeros_like(v) if k.endswith("complex_weights") else v for k, v in before.items()}
    detector.load_state_dict(silent)
    with torch.no_grad():
        without = detector.extract_feat(image)
    detector.load_state_dict(before)
    assert max(float((a - b).abs().max()) for a, b in zip(plain, without, strict=True)) > 0.1


@pytest.mark.parametrize("suffix", [".onnx", ".pt"])
@pytest.mark.parametrize(
    ("backbone", "neck"),
    [
        pytest.param(
            dict(type="ViTFDAM", arch=dict(embed_dims=64, depth=2, num_heads=2), img_size=64, window_size=3),
            dict(type="SimplePyramid", in_channels=64, out_channels=32),
            id="ViTFDAM",
        ),
        pytest.param(
            dict(type="MiTFDAM", arch=dict(embed_dims=16, depths=[1, 1, 1, 1])),
            dict(type="FDAMFPN", in_channels=[16, 32, 80, 128], out_channels=32, num_outs=5),
            id="MiTFDAM",
        ),
    ],
)
def test_transformers_export(backbone, neck, suffix, tmp_path):
    """Windows of unequal size and position embeddings of another size included."""
    torch.manual_seed(0)
    model = Detector(backbone, neck).eval()
    for name, parameter in model.named_parameters():
        if name.endswith(("complex_weights", "lf_gamma", "hf_gamma", "gamma_1", "gamma_2")):
            nn.init.normal_(parameter, std=0.5)
    report = export_features(model, tmp_path / f"f{suffix}", (72, 112))
    if suffix == ".onnx":
        graph = onnx.load(str(tmp_path / "f.onnx")).graph
        assert not {node.op_type for node in graph.node} & UNUSUAL
    assert report.difference < 1e-4
    assert report.freq_layers >= 4


def test_freq_fusion_exports_to_torchscript(tmp_path):
    """At an even and an odd ratio of sizes; to ONNX it takes minutes."""
    torch.manual_seed(0)
    dims = [16, 32, 80, 128]
    model = Detector(
        dict(type="LSKNet", embed_dims=dims, depths=[1, 1, 1, 1], mlp_ratios=[2, 2, 2, 2]),
        dict(type="FreqFusionFPN", in_channels=dims, out_channels=32, num_outs=5),
    ).eval()
    for parameter in model.neck.fusions.parameters():
        nn.init.normal_(parameter, std=0.05)
    assert export_features(model, tmp_path / "f.pt", (75, 96)).difference < 1e-4


def test_a_wrong_export_is_not_kept(detector, tmp_path, monkeypatch):
    import fdam_rotate.apis.exporting.features as module

    monkeypatch.setattr(module, "_script_runner", lambda path: lambda image: [
        x + 1e-3 * x.abs().max().clamp(min=1) for x in torch.jit.load(str(path))(image)
    ])  # fmt: skip
    with pytest.raises(ExportError, match=r"differs from the detector by 0\.001.*was not written"):
        export_features(detector, tmp_path / "f.pt", (32, 32))
    assert list(tmp_path.iterdir()) == []
    assert export_features(detector, tmp_path / "f.pt", (32, 32), check=False).difference is None


def test_what_cannot_be_exported_is_told_in_one_line(tmp_path):
    class Stubborn(nn.Module):
        def extract_feat(self, image):
            if torch.jit.is_tracing():
                raise NotImplementedError("no tracing\nsecond line")
            return (image,)

    with pytest.raises(ExportError, match=r"^Stubborn cannot be exported as pt: no tracing$"):
        export_features(Stubborn(), tmp_path / "f.pt", (8, 8))
    assert list(tmp_path.iterdir()) == []


def test_the_missing_operator_is_named(tmp_path):
    class Windows(nn.Module):
        def extract_feat(self, image):
            return (image * torch.hamming_window(8, periodic=False),)

    with pytest.raises(ExportError, match=r"ONNX has no operator for aten\.hamming_window$"):
        export_features(Windows(), tmp_path / "f.onnx", (8, 8))


def test_target_is_checked_first(tmp_path):
    (tmp_path / "f.onnx").write_text("precious")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        export_features(nn.Identity(), tmp_path / "f.onnx", (8, 8))
    with pytest.raises(ExportError, match=r"\.onnx \(ONNX\) or \.pt"):
        export_features(nn.Identity(), tmp_path / "f.engine", (8, 8))
