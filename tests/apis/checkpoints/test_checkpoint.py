"""Checkpoints: published layouts load with a report, code never runs, mmcv's own paths included."""

from __future__ import annotations

import argparse
import collections
import functools
import http.server
import io
import logging
import os
import pickle
import sys
import threading
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fdam_rotate.apis.checkpoints import checkpoint
from fdam_rotate.apis.checkpoints.checkpoint import (
    CheckpointError,
    LoadReport,
    install_safe_loader,
    load_checkpoint_file,
    load_into,
    save_checkpoint_file,
)
from fdam_rotate.apis.checkpoints.checkpoint_keys import find_state_dict, group_keys, match_keys
from fdam_rotate.dota.errors import OutputExistsError


class Backbone(nn.Module):
    """A stand-in with keys of LSKNet's kind: numbered blocks and a batch norm."""

    def __init__(self, width: int = 4, extra: bool = False) -> None:
        super().__init__()
        self.patch_embed1 = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width))
        self.block1 = nn.ModuleList([nn.Linear(width, width) for _ in range(2)])
        if extra:
            self.freq_scale_1 = nn.Linear(width, 2, bias=False)


class Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.neck = nn.Linear(4, 4)
        self.bbox_head = nn.Linear(4, 1)


class Bomb:
    """Unpickling this makes a file, by calling ``os.system``: what an attacker's checkpoint would do."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.system, (f"touch '{self.marker}'",)


def seeded(model: nn.Module, seed: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.randn_like(tensor))
    return model


def equal(model: nn.Module, state: dict) -> bool:
    own = model.state_dict()
    return all(torch.equal(own[k], v) for k, v in state.items())


# ---- layouts ---------------------------------------------------------------------------------------------------------


def classifier(state: dict) -> dict:
    return {**state, "head.weight": torch.zeros(10, 4), "head.bias": torch.zeros(10)}


LAYOUTS = {
    "bare": lambda s: s,
    "ordered": collections.OrderedDict,
    "timm": lambda s: {"epoch": 299, "state_dict": classifier(s), "args": argparse.Namespace(lr=1e-3, model="lsk_s")},
    "deit": lambda s: {"model": {**classifier(s), "norm.weight": torch.ones(4), "norm.bias": torch.zeros(4)}},
    "data_parallel": lambda s: {"state_dict": {f"module.{k}": v for k, v in classifier(s).items()}},
    "compiled_data_parallel": lambda s: {"state_dict": {f"module._orig_mod.{k}": v for k, v in s.items()}},
    "detector": lambda s: {
        "meta": {"CLASSES": ("ship",)},
        "state_dict": {**{f"backbone.{k}": v for k, v in s.items()}, "neck.weight": torch.zeros(4, 4)},
    },
    "parallel_detector": lambda s: {
        "state_dict": {**{f"module.backbone.{k}": v for k, v in s.items()}, "module.neck.weight": torch.zeros(4, 4)}
    },
    "averaged_model": lambda s: {
        "state_dict": {"n_averaged": torch.tensor(3), **{f"module.{k}": v for k, v in classifier(s).items()}}
    },
    "parallel_backbone_and_a_stray": lambda s: {
        "state_dict": {**{f"module.backbone.{k}": v for k, v in s.items()}, "criterion.weight": torch.zeros(3)}
    },
    "parallel_ema": lambda s: {
        "state_dict": {
            **{f"module.backbone.{k}": v for k, v in s.items()},
            **{"module.ema_backbone_" + k.replace(".", "_"): torch.zeros_like(v) for k, v in s.items()},
        }
    },
    "ema_beside_parallel": lambda s: {
        "state_dict": {
            **{f"module.{k}": v for k, v in s.items()},
            **{"ema_module_" + k.replace(".", "_"): torch.zeros_like(v) for k, v in s.items()},
        }
    },
    "ema": lambda s: {
        "state_dict": {
            **{f"backbone.{k}": v for k, v in s.items()},
            **{"ema_backbone_" + k.replace(".", "_"): torch.zeros_like(v) for k, v in s.items()},
        }
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_every_published_layout_fills_a_bare_backbone(tmp_path, layout, zipped):
    source = seeded(Backbone()).state_dict()
    path = tmp_path / "c.pth.tar"
    torch.save(LAYOUTS[layout](source), path, _use_new_zipfile_serialization=zipped)
    model = seeded(Backbone(), 9)
    report = load_into(model, path, strict=True)
    assert report.exact
    assert sorted(report.loaded) == sorted(source)
    assert equal(model, source)


def test_dropped_keys_are_named_with_their_reason(tmp_path):
    source = Backbone().state_dict()
    torch.save(LAYOUTS["deit"](source), tmp_path / "deit.pth")
    report = load_into(Backbone(), tmp_path / "deit.pth")
    assert report.dropped == {"classifier": ["head.weight", "head.bias", "norm.weight", "norm.bias"]}
    torch.save(LAYOUTS["ema"](source), tmp_path / "ema.pth")
    report = load_into(Backbone(), tmp_path / "ema.pth")
    assert set(report.dropped) == {"EMA copies"}
    assert len(report.dropped["EMA copies"]) == len(source)
    report = load_into(Backbone(), LAYOUTS["parallel_ema"](source))
    assert {reason: len(keys) for reason, keys in report.dropped.items()} == {"EMA copies": len(source)}
    report = load_into(Backbone(), LAYOUTS["averaged_model"](source))
    assert report.dropped["outside module."] == ["n_averaged"]
    assert "1 outside module.: n_averaged" in report.table()


def test_the_norm_of_a_model_that_has_one_is_loaded_not_dropped():
    class WithNorm(Backbone):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(4)

    source = classifier(seeded(WithNorm()).state_dict())
    report = load_into(model := WithNorm(), {"model": source})
    assert report.dropped == {"classifier": ["head.weight", "head.bias"]}
    assert torch.equal(model.norm.weight, source["norm.weight"])


def test_backbone_file_fills_a_detector_and_its_report_names_what_is_new(tmp_path):
    source = seeded(Backbone()).state_dict()
    torch.save({"state_dict": classifier(source)}, tmp_path / "b.pth")
    detector = seeded(Detector(), 8)
    before = detector.neck.weight.clone()
    report = load_into(detector, tmp_path / "b.pth")
    assert equal(detector.backbone, source)
    assert torch.equal(detector.neck.weight, before)
    assert report.missing == ("neck.weight", "neck.bias", "bbox_head.weight", "bbox_head.bias")
    assert report.renamed == ("+backbone.",)
    assert list(report.dropped) == ["classifier"]
    with pytest.raises(CheckpointError, match=r"does not fit Detector exactly(?s:.)*new +4"):
        load_into(detector, tmp_path / "b.pth", strict=True)


def test_prefix_takes_that_part_only():
    state = {"teacher.weight": torch.full((1, 4), 1.0), "student.weight": torch.full((1, 4), 2.0)}
    model = nn.Linear(4, 1, bias=False)
    report = load_into(model, state, prefix="student")
    assert torch.equal(model.weight, state["student.weight"])
    assert report.dropped == {"outside student.": ["teacher.weight"]}


def test_unknown_and_misshapen_tensors_are_reported_and_the_rest_is_loaded(tmp_path):
    source = seeded(Backbone()).state_dict()
    source["block1.1.weight"] = torch.zeros(4, 7)
    source["somewhere.else"] = torch.zeros(3)
    torch.save(source, tmp_path / "c.pth")
    model = seeded(Backbone(extra=True), 5)
    kept = model.block1[1].weight.clone()
    report = load_into(model, tmp_path / "c.pth")
    assert dict(report.mismatched) == {"block1.1.weight": ((4, 7), (4, 4))}
    assert report.unexpected == ("somewhere.else",)
    assert report.missing == ("freq_scale_1.weight",)
    assert torch.equal(model.block1[1].weight, kept)
    assert torch.equal(model.block1[0].weight, source["block1.0.weight"])
    table = report.table()
    for text in (
        "block1.1.weight: 4x7 in the file, 4x4 in the model",
        "somewhere.else (unknown",
        "freq_scale_*.weight",
    ):
        assert text in table
    with pytest.raises(CheckpointError, match="does not fit Backbone exactly"):
        load_into(model, tmp_path / "c.pth", strict=True)


def test_a_hook_that_resizes_is_no_mismatch():
    class Resizing(nn.Linear):
        def _load_from_state_dict(self, state, prefix, *args):
            state[prefix + "weight"] = state[prefix + "weight"][:, : self.in_features]
            super()._load_from_state_dict(state, prefix, *args)

    model = Resizing(2, 1, bias=False)
    report = load_into(model, {"weight": torch.tensor([[1.0, 2.0, 3.0]])}, strict=True)
    assert report.complete
    assert not report.exact
    assert dict(report.resized) == {"weight": ((1, 3), (1, 2))}
    assert "resized: weight 1x3 -> 1x2" in report.table()
    assert model.weight.tolist() == [[1.0, 2.0]]


def test_a_long_report_is_cut():
    shapes = {f"{letter}.w": ((2,), ()) for letter in "xyz"}
    dropped = {"classifier": ["a", "b", "c"], "EMA copies": ["d", "e", "f", "g"]}
    report = LoadReport("f", "M", ("k",), ("a.1.w", "a.2.w", "b.w", "c.w"), mismatched=shapes, dropped=dropped)
    assert report.table(3).splitlines() == [
        "f -> M",
        "  loaded       1 of 8 tensors",
        "  new          4 not in the file, keep their initial values",
        "    a.*.w  x2",
        "    b.w",
        "    c.w",
        "  refused      3",
        *(f"    {letter}.w: 2 in the file, scalar in the model" for letter in "xyz"),
        "  dropped      3 classifier: a, b, c",
        "  dropped      4 EMA copies",
    ]
    short = report.table(2).splitlines()
    assert short[3:6] == ["    a.*.w  x2", "    b.w", "    ... and 1 more kinds"]
    assert sum(" in the model" in line for line in short) == 2


@pytest.mark.parametrize(
    ("key", "theirs", "ours", "text", "shrunk"),
    [
        ("pos_embed", (1, 1024, 8), (1, 196, 8), "pos_embed 32x32 -> 14x14", True),
        ("b.pos_embed", (1, 197, 8), (1, 1025, 8), "b.pos_embed 14x14 -> 32x32", False),
        # a class token less is no position lost; 7 positions are no square
        ("pos_embed", (1, 197, 8), (1, 196, 8), "pos_embed 1x197x8 -> 1x196x8", False),
        ("pos_embed", (1, 7, 8), (1, 4, 8), "pos_embed 1x7x8 -> 1x4x8", True),
        ("table", (9,), (4,), "table 9 -> 4", True),
        ("table", (4,), (9,), "table 4 -> 9", False),
    ],
)
def test_how_a_resized_tensor_is_told(key, theirs, ours, text, shrunk):
    assert checkpoint._resize_text(key, theirs, ours) == text
    assert checkpoint._is_shrunk(key, theirs, ours) is shrunk


def test_other_entries_that_hold_tensors_are_told(tmp_path):
    source = seeded(Backbone()).state_dict()
    loop = [1]
    loop.append(loop)
    rest = {"optimizer": {"state": {0: [torch.zeros(1)]}}, "state_dict_ema": source, "epoch": 3, "loop": loop}
    torch.save({**rest, "model": source}, tmp_path / "c.pth")
    for given in (tmp_path / "c.pth", {**rest, "model": source}):
        report = load_into(Backbone(), given, strict=True)
        assert report.unused == ("optimizer", "state_dict_ema")
        assert "not used: optimizer, state_dict_ema" in report.table()
    assert load_into(Backbone(), source).unused == ()
    assert "not used" not in load_into(Backbone(), source).table()


def test_a_checkpoint_of_another_network_is_refused():
    with pytest.raises(CheckpointError, match=r"no tensor fits Backbone; the file has conv\.weight"):
        load_into(Backbone(), {"conv.weight": torch.zeros(2)})
    with pytest.raises(CheckpointError, match="every tensor has another shape"):
        load_into(Backbone(4), {k: torch.zeros(9, 9, 9) for k in ("block1.0.weight", "block1.0.bias")})


def test_match_keys_leaves_a_models_own_module_prefix():
    state = {"module.weight": torch.zeros(1)}
    assert match_keys(state, ["module.weight"]).renamed == ()
    assert match_keys(state, ["weight"]).renamed == ("-module.",)
    assert match_keys({"other": torch.zeros(1)}, ["weight"]).renamed == ()


def test_a_prefix_that_many_keys_lack_stays():
    state = {f"module.{i}": torch.zeros(1) for i in range(8)} | {"a": torch.zeros(1), "b": torch.zeros(1)}
    assert match_keys(state, ["0"]).renamed == ()


def test_a_file_of_averaged_weights_alone_keeps_them():
    state = {"ema_a": torch.zeros(1), "ema_b": torch.zeros(1)}
    match = match_keys(state, ["a", "b"])
    assert (set(match.state), match.dropped) == (set(state), {})


def test_find_state_dict_nests_and_refuses():
    tensor = torch.zeros(1)
    assert find_state_dict({"model": {"state_dict": {"a": tensor, "step": 3}}}) == (
        {"a": tensor},
        ("model", "state_dict"),
    )
    assert find_state_dict({"model": {}, "a": tensor}) == ({"a": tensor}, ())
    for bad, text in (([1], "found list"), ({"a": 1, "b": 2}, "found a, b"), ({}, "found nothing")):
        with pytest.raises(ValueError, match=text):
            find_state_dict(bad)


def test_group_keys_stars_numbers():
    assert group_keys(["a1.0.w", "a2.11.w", "b"]) == {"a*.*.w": 2, "b": 1}


# ---- safety ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_pickle_with_code_is_refused_and_does_not_run(tmp_path, zipped):
    marker = tmp_path / "ran"
    path = tmp_path / "evil.pth"
    torch.save({"state_dict": {"w": torch.zeros(1)}, "x": Bomb(marker)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"refused and not run: it names .*system.*--unsafe-load"):
        load_checkpoint_file(path)
    assert not marker.exists()
    assert load_checkpoint_file(path, unsafe=True)["state_dict"]["w"].item() == 0
    assert marker.exists(), "the payload is real: the opt-out runs it"


def test_all_code_that_a_file_names_is_told(tmp_path):
    class Other(Bomb):
        def __reduce__(self) -> tuple:
            return os.rmdir, (str(self.marker),)

    content = {"w": torch.zeros(1), "x": Bomb(tmp_path / "ran"), "y": Other(tmp_path / "gone")}
    torch.save(content, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match=r"it names \w+\.rmdir, \w+\.system, which is code"):
        load_checkpoint_file(tmp_path / "evil.pth")


def test_an_environment_variable_does_not_opt_out(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    torch.save({"w": torch.zeros(1), "x": Bomb(tmp_path / "ran")}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match="refused"):
        load_checkpoint_file(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_a_training_checkpoint_with_numpy_meta_and_optimizer_loads(tmp_path):
    meta = {
        "mmrotate_version": "0.3.4",
        "epoch": 12,
        "seed": np.int64(5),
        "CLASSES": ("plane", "ship"),
        "PALETTE": [(165, 42, 42), (189, 183, 107)],
        "hook_msgs": {"best_score": np.float64(0.77), "last": np.float32(0.5), "flag": np.bool_(True)},
    }
    model = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    torch.save(
        {"meta": meta, "state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "e.pth"
    )
    loaded = load_checkpoint_file(tmp_path / "e.pth")
    assert loaded["meta"]["hook_msgs"] == {"best_score": 0.77, "last": np.float32(0.5), "flag": True}
    assert loaded["meta"]["seed"] == 5
    assert loaded["meta"]["CLASSES"] == ("plane", "ship")
    assert loaded["optimizer"]["param_groups"][0]["lr"] == 1e-4


def test_numpy_2_spelling_of_its_scalars_loads(tmp_path):
    """What numpy 2 writes says ``numpy._core``; the bytes are edited so that both spellings are met on either."""
    path = tmp_path / "c.pth"
    torch.save({"state_dict": {"w": torch.zeros(1)}, "x": np.float64(1.5)}, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    other = data.replace(b"numpy.core.multiarray", b"numpy._core.multiarray")
    if other == data:
        other = data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert other != data
    path.write_bytes(other)
    assert load_checkpoint_file(path)["x"] == 1.5


# ---- what a pickle can do with numpy's names: each program puts one value on the stack -------------------------------

DTYPE = b"cnumpy\ndtype\n"
CORE = b"cnumpy.core.multiarray\n"


def pickled(value: object) -> bytes:
    """Opcodes that put ``value`` on the stack, without the header and the stop."""
    return pickle.dumps(value, protocol=2)[2:-1]


F8 = DTYPE + pickled(("f8", 0, 1)) + b"R"
U1 = DTYPE + pickled(("U1", 0, 1)) + b"R"
NO_BYTES = b"c_codecs\nencode\n" + pickled(("", "latin1")) + b"R"  # what torch's unpickler has for b""

ABUSES = {
    "dtype of objects": DTYPE + pickled(("O8", 0, 1)) + b"R",
    "dtype with fields": DTYPE + pickled(("V8", 0, 1)) + b"R",
    "objects by state": F8 + pickled((3, "|", None, ("a",), {"a": ("O", 0)}, 8, 1, 0)) + b"b",
    "scalar of objects": CORE + b"scalar\n" + pickled("O") + pickled(b"A" * 8) + b"\x86R",
    "long dtype": DTYPE + pickled(("U999999999", 0, 1)) + b"R",
    "scalar of no text": CORE + b"scalar\n" + U1 + pickled(b"\xff" * 4) + b"\x86R",
    "short scalar": CORE + b"scalar\n" + F8 + pickled(b"A") + b"\x86R",
}


def write_program(path: Path, program: bytes) -> Path:
    """A checkpoint in torch's zip format whose entry ``x`` is what the program makes."""
    torch.save({"state_dict": {"w": torch.zeros(1)}, "x": 1}, path.with_suffix(".plain"))
    with zipfile.ZipFile(path.with_suffix(".plain")) as plain, zipfile.ZipFile(path, "w") as edited:
        for name in plain.namelist():
            data = plain.read(name)
            if name.endswith("data.pkl"):
                assert data.endswith(b"K\x01u.")
                data = data.replace(b"K\x01u.", program + b"u.")
            edited.writestr(name, data)
    return path


@pytest.mark.parametrize("abuse", ABUSES)
def test_numpys_names_make_nothing_but_checked_values(tmp_path, abuse):
    """numpy's own constructor takes bytes for the addresses of objects: the interpreter crashes at their first use."""
    path = write_program(tmp_path / "evil.pth", ABUSES[abuse])
    with pytest.raises(CheckpointError, match=r"was refused: it has .*only plain numbers") as caught:
        load_checkpoint_file(path)
    assert "\n" not in str(caught.value)


def test_a_namespace_cannot_be_turned_into_a_stand_in(tmp_path):
    program = b"cargparse\nNamespace\n)R(N}" + pickled("__class__") + DTYPE + b"stb"
    with pytest.raises(CheckpointError, match="layout differs"):
        load_checkpoint_file(write_program(tmp_path / "evil.pth", program))


def test_the_programs_above_can_also_make_honest_values(tmp_path):
    scalar = CORE + b"scalar\n" + F8 + pickled(np.float64(2.5).tobytes()) + b"\x86R"
    assert load_checkpoint_file(write_program(tmp_path / "s.pth", scalar))["x"] == 2.5
    text = CORE + b"scalar\n" + DTYPE + pickled(("S0", 0, 1)) + b"R" + NO_BYTES + b"\x86R"
    assert load_checkpoint_file(write_program(tmp_path / "t.pth", text))["x"] == b""


def test_an_array_is_refused_in_one_line(tmp_path):
    torch.save({"state_dict": {"w": torch.zeros(1)}, "meta": {"history": np.arange(3.0)}}, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match=r"refused .*multiarray\._reconstruct.*--unsafe-load") as caught:
        load_checkpoint_file(tmp_path / "c.pth")
    assert "\n" not in str(caught.value)
    assert load_checkpoint_file(tmp_path / "c.pth", unsafe=True)["meta"]["history"].tolist() == [0, 1, 2]


def test_numpy_scalars_keep_type_and_order_and_are_written_as_numpy_writes_them(tmp_path):
    values = {"scalar": np.complex64(1 + 2j), "text": np.str_("ship"), "type": np.dtype(">i4")}
    torch.save({"state_dict": {"w": torch.zeros(1)}, "meta": values}, tmp_path / "c.pth")
    once = load_checkpoint_file(tmp_path / "c.pth")
    torch.save(once, tmp_path / "again.pth")
    for loaded in (once["meta"], load_checkpoint_file(tmp_path / "again.pth")["meta"]):
        for name in ("scalar", "text"):
            assert loaded[name] == values[name], name
            assert loaded[name].dtype == values[name].dtype, name
    assert torch.load(tmp_path / "again.pth", weights_only=False)["meta"]["type"] == np.dtype(">i4")


def test_a_class_that_is_not_installed_is_named_also_when_code_is_allowed(tmp_path, monkeypatch):
    module = types.ModuleType("absent_engine")
    history = type("HistoryBuffer", (), {"__module__": "absent_engine"})
    module.HistoryBuffer = history
    monkeypatch.setitem(sys.modules, "absent_engine", module)
    torch.save({"state_dict": {"w": torch.zeros(1)}, "hub": history()}, tmp_path / "c.pth")
    del module.HistoryBuffer
    with pytest.raises(CheckpointError, match=r"attribute 'HistoryBuffer'.*absent_engine\.HistoryBuffer.*Install"):
        load_checkpoint_file(tmp_path / "c.pth", unsafe=True)
    monkeypatch.delitem(sys.modules, "absent_engine")
    with pytest.raises(CheckpointError, match=r"No module named 'absent_engine'.*Install the package") as caught:
        load_checkpoint_file(tmp_path / "c.pth", unsafe=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"<!DOCTYPE html><html></html>", "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
        (b"PK\x03\x04 half a zip archive", "cannot be read as a checkpoint"),
        (b"\x00\x01\x02 noise", "not a checkpoint"),
        (pickle.dumps({"a": 1}), "is no checkpoint|not a checkpoint|cannot be read"),
    ],
    ids=["empty", "html", "lfs", "truncated", "noise", "plain-pickle"],
)
def test_damaged_files_are_told_in_one_line(tmp_path, content, message):
    path = tmp_path / "c.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint_file(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_truncated_real_checkpoint(tmp_path):
    path = tmp_path / "c.pth"
    torch.save({"w": torch.zeros(5000)}, path)
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(CheckpointError, match="is the download complete"):
        load_checkpoint_file(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.pth does not exist"):
        load_checkpoint_file(tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match="is a folder"):
        load_checkpoint_file(tmp_path)


# ---- writing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_written_files_read_back(tmp_path, suffix):
    weight = torch.randn(3, 4)
    state = {"w": weight, "view": weight.t(), "n": torch.tensor(7)}
    path = tmp_path / f"c{suffix}"
    save_checkpoint_file(path, state, {"CLASSES": ["ship"], "epoch": 3})
    loaded = load_checkpoint_file(path)
    assert loaded["meta"] == {"CLASSES": ["ship"], "epoch": 3}
    assert loaded["state_dict"].keys() == state.keys()
    assert all(torch.equal(loaded["state_dict"][k], v) for k, v in state.items())
    with pytest.raises(OutputExistsError, match="--overwrite"):
        save_checkpoint_file(path, state)
    save_checkpoint_file(path, {"w": weight * 2}, overwrite=True)
    assert torch.equal(load_checkpoint_file(path)["state_dict"]["w"], weight * 2)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    with pytest.raises(OutputExistsError, match="would be read and written"):
        checkpoint.check_target(path, overwrite=True, inputs=[path])


def test_a_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        save_checkpoint_file(tmp_path / "c.safetensors", {"w": torch.zeros(1)}, {"x": object()})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CheckpointError, match=r"\.pth, \.pt or \.safetensors"):
        save_checkpoint_file(tmp_path / "c.bin", {})


def test_safetensors_of_others(tmp_path):
    from safetensors.torch import save_file

    for number, metadata in enumerate((None, {"format": "pt"}, {"meta": "[1]"}, {"meta": '{"epoch": 3}'})):
        save_file({"w": torch.ones(1)}, tmp_path / "c.safetensors", metadata=metadata)
        assert load_checkpoint_file(tmp_path / "c.safetensors")["meta"] == ({"epoch": 3} if number == 3 else {})
    save_file({}, tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match=r"none\.safetensors holds no tensors"):
        load_checkpoint_file(tmp_path / "none.safetensors")


def test_damaged_safetensors(tmp_path):
    (tmp_path / "c.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00not json at all.")
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        load_checkpoint_file(tmp_path / "c.safetensors")


# ---- mmcv's own paths ------------------------------------------------------------------------------------------------


@pytest.fixture
def safe_mmcv():
    """mmcv with our loader; its own is put back afterwards."""
    from mmcv.cnn.utils.weight_init import INITIALIZERS
    from mmcv.runner import checkpoint as module

    schemes, load_url = dict(module.CheckpointLoader._schemes), module.load_url
    initialiser = INITIALIZERS.get("Pretrained")
    install_safe_loader()
    yield module
    module.CheckpointLoader._schemes = schemes
    module.load_url = load_url
    INITIALIZERS.register_module(name="Pretrained", module=initialiser, force=True)


def test_mmcv_load_checkpoint_refuses_code_and_reads_every_layout(tmp_path, safe_mmcv):
    torch.save({"state_dict": {"weight": torch.zeros(1, 1)}, "x": Bomb(tmp_path / "ran")}, tmp_path / "evil.pth")
    model = nn.Linear(1, 1, bias=False)
    with pytest.raises(CheckpointError, match="refused"):
        safe_mmcv.load_checkpoint(model, str(tmp_path / "evil.pth"))
    assert not (tmp_path / "ran").exists()
    torch.save({"model": {"weight": torch.full((1, 1), 3.0)}, "best": np.float64(1)}, tmp_path / "c.pth")
    safe_mmcv.load_checkpoint(model, str(tmp_path / "c.pth"), strict=True)
    assert model.weight.item() == 3
    save_checkpoint_file(tmp_path / "c.safetensors", {"weight": torch.full((1, 1), 4.0)})
    safe_mmcv.load_checkpoint(model, str(tmp_path / "c.safetensors"), strict=True)
    assert model.weight.item() == 4


def test_mmcv_url_refuses_code(tmp_path, safe_mmcv, monkeypatch):
    """By default mmcv unpickles a downloaded file without any restriction (torch.hub's default)."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    served = tmp_path / "served"
    served.mkdir()
    torch.save({"state_dict": {"weight": torch.zeros(1, 1)}, "x": Bomb(tmp_path / "ran")}, served / "evil.pth")
    torch.save({"model": {"weight": torch.full((1, 1), 5.0)}}, served / "good.pth")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        model = nn.Linear(1, 1, bias=False)
        with pytest.raises(CheckpointError, match="refused"):
            safe_mmcv.load_checkpoint(model, f"{url}/evil.pth")
        assert not (tmp_path / "ran").exists()
        safe_mmcv.load_checkpoint(model, f"{url}/good.pth")
        assert model.weight.item() == 5
        with pytest.raises(CheckpointError, match=r"none.pth: cannot be fetched: HTTP Error 404: .*none.pth$"):
            safe_mmcv.load_checkpoint(model, f"{url}/none.pth")
        server.shutdown()


def make_runner(folder: Path):
    from mmcv.runner import EpochBasedRunner
    from mmcv.utils import get_logger

    class Model(nn.Linear):
        def train_step(self, data, optimizer):
            raise NotImplementedError

    model = Model(1, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return EpochBasedRunner(model, optimizer=optimizer, work_dir=str(folder), logger=get_logger("t"), max_epochs=2)


def test_a_file_that_was_fetched_is_not_fetched_again(tmp_path, safe_mmcv, monkeypatch):
    torch.save({"state_dict": {"w": torch.ones(1)}}, tmp_path / "lsk.pth")
    monkeypatch.setattr(torch.hub, "download_url_to_file", None)
    loaded = safe_mmcv.load_url("https://example.org/a/lsk.pth?x=1", model_dir=str(tmp_path))
    assert loaded["state_dict"]["w"].item() == 1


def test_resume_does_not_execute_the_config_text_of_the_file(tmp_path, safe_mmcv):
    marker = tmp_path / "ran"
    config = f"gpu_ids = range(0, 1)\nimport os\nos.system('touch {marker}')\n"
    runner = make_runner(tmp_path)
    meta = {"epoch": 1, "iter": 10, "config": config, "hook_msgs": {"best_score": np.float64(0.5)}}
    torch.save(
        {"meta": meta, "state_dict": runner.model.state_dict(), "optimizer": runner.optimizer.state_dict()},
        tmp_path / "e.pth",
    )
    runner.resume(str(tmp_path / "e.pth"), map_location="cpu")
    assert not marker.exists()
    assert (runner.epoch, runner.iter) == (1, 10)
    assert runner.meta["config_text"] == config


def test_resume_still_rescales_iterations_to_the_number_of_gpus(tmp_path, safe_mmcv):
    runner = make_runner(tmp_path)
    state = {"state_dict": runner.model.state_dict(), "optimizer": runner.optimizer.state_dict()}
    for text, expected in (
        ("gpu_ids = range(0, 4)", 40),
        ("gpu_ids = [0, 1]", 20),
        ("a = 1", 10),
        ("gpu_ids = f()", 10),
    ):
        torch.save({**state, "meta": {"epoch": 1, "iter": 10, "config": text}}, tmp_path / "e.pth")
        runner.resume(str(tmp_path / "e.pth"), map_location="cpu")
        assert runner.iter == expected, text


def test_init_cfg_takes_published_layouts_reports_and_refuses_another_network(tmp_path, safe_mmcv, monkeypatch):
    from mmcv.runner import BaseModule

    class Host(BaseModule):
        def __init__(self, init_cfg):
            super().__init__(init_cfg)
            self.conv = nn.Conv2d(1, 1, 1, bias=False)
            self.freq_scale_1 = nn.Linear(1, 1, bias=False)

    state = {"module.backbone.conv.weight": torch.full((1, 1, 1, 1), 2.0), "module.neck.weight": torch.zeros(1)}
    torch.save({"state_dict": state}, tmp_path / "c.pth")
    model = Host(dict(type="Pretrained", checkpoint=str(tmp_path / "c.pth")))
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger("mmcv").addHandler(handler)
    model.init_weights()
    logging.getLogger("mmcv").removeHandler(handler)
    assert model.conv.weight.item() == 2
    assert "freq_scale_*.weight" in stream.getvalue()
    state["module.backbone.freq_scale_1.weight"] = torch.zeros(2, 2)
    torch.save({"state_dict": state}, tmp_path / "misfit.pth")
    told = []
    monkeypatch.setattr(logging.getLogger("mmcv"), "log", lambda level, *text: told.append((level, text[-1])))
    for name in ("c", "misfit"):
        Host(dict(type="Pretrained", checkpoint=str(tmp_path / f"{name}.pth"))).init_weights()
    tables = [(level, text) for level, text in told if " -> Host" in text]
    assert [level for level, _ in tables] == [logging.INFO, logging.WARNING]
    assert "freq_scale_1.weight: 2x2 in the file" in tables[1][1]
    torch.save({"other": torch.zeros(1)}, tmp_path / "d.pth")
    with pytest.raises(CheckpointError, match="no tensor fits Host"):
        Host(dict(type="Pretrained", checkpoint=str(tmp_path / "d.pth"))).init_weights()
