"""A flag means the same in every command; wrong values are one line; former names work and say so."""

from __future__ import annotations

import argparse
import importlib
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from fdam_rotate.commands import COMMANDS
from fdam_rotate.commands.arguments import add_classes, add_out
from fdam_rotate.commands.parser import CommandParser, command_parser, usage_errors
from fdam_rotate.commands.values import (
    config_file,
    device,
    existing_file,
    existing_folder,
    existing_path,
    fraction,
    key_value,
    non_negative_int,
    positive_float,
    positive_int,
)
from fdam_rotate.dota.errors import DotaError

#: Flag -> what argparse keeps of it: the attribute, the type of one value, whether it takes a value at all.
SHARED = {
    "--out": ("out", "Path", True),
    "--overwrite": ("overwrite", None, False),
    "--iou-thr": ("iou_thr", "fraction", True),
    "--score-thr": ("score_thr", "fraction", True),
    "--device": ("device", "device", True),
    "--classes": ("classes", "class_list", True),
}
#: What no command may call one of them.
OTHER_NAMES = {
    "--output", "--out-dir", "--save-to", "--force", "--iou", "--iou-threshold", "--nms-thr", "--score", "--threshold",
    "--conf", "--gpu", "--gpus", "--gpu-id", "--class-names", "--labels-list",
}  # fmt: skip


def parser_of(command: str) -> CommandParser:
    module = importlib.import_module(f"fdam_rotate.commands.{command.replace('-', '_')}")
    parser: CommandParser = module.build_parser()
    return parser


def flags() -> dict[str, dict[str, argparse.Action]]:
    """Flag -> command -> its action."""
    found: dict[str, dict[str, argparse.Action]] = defaultdict(dict)
    for command in COMMANDS:
        for action in parser_of(command)._actions:
            for flag in action.option_strings:
                found[flag][command] = action
    return found


def kind(action: argparse.Action) -> tuple[str, str | None, bool]:
    name = None if action.type is None else getattr(action.type, "__name__", repr(action.type))
    return action.dest, name, action.nargs != 0


def test_no_two_commands_give_one_flag_two_types() -> None:
    for flag, actions in flags().items():
        kinds = {command: kind(action) for command, action in actions.items()}
        assert len(set(kinds.values())) == 1, f"{flag}: {kinds}"


def test_the_shared_flags_have_one_name_type_and_place() -> None:
    found = flags()
    assert not OTHER_NAMES & set(found)
    for flag, expected in SHARED.items():
        assert len(found[flag]) >= 4
        for command, action in found[flag].items():
            assert kind(action) == expected, f"{command} {flag}"
    assert {action.default for action in found["--device"].values()} == {"auto"}
    writes_elsewhere = {"verify", "evaluate", "train", "compare", "demo", "benchmark", "flops", "doctor"}
    assert set(found["--out"]) == set(COMMANDS) - writes_elsewhere
    assert set(found["--work-dir"]) == {"train", "test", "compare", "demo"}


def test_mmrotates_names_are_kept() -> None:
    found = flags()
    assert found["--save-dir"]["split"] is not None
    assert kind(found["--save-dir"]["split"]) == SHARED["--out"]
    assert kind(found["--show-score-thr"]["test"]) == SHARED["--score-thr"]


#: What holds without a flag. Windows and shares of split: MMRotate's img_split.py; merging at 0.1 and scores from 0.05
#: up: its test_cfg and DOTA_devkit's ResultMerge; drawing from 0.3 up: its show_score_thr; fusing at 0.55: Solovyev et
#: al., "Weighted boxes fusion", 2021; 11 points: DOTA's server. All else: the docs.
DEFAULTS: dict[str, dict[str, Any]] = {
    "download": {"version": "v1.0", "splits": ("train", "val"), "retries": 5, "timeout": 60},
    "synthetic": {"train": 20, "val": 5, "size": "800", "classes": "v1.0", "gsd": (0.13, 0.45), "seed": 0},
    "verify": {"classes": "v2.0", "accept": [], "scale_range": ["auto"]},
    "convert-labels": {"outside": "clip", "images": "symlink"},
    "split": {
        "out": Path(), "save_ext": ".png", "style": "mmrotate", "sizes": [1024], "gaps": [512], "rates": [1.0],
        "img_rate_thr": 0.6, "iof_thr": 0.7, "padding_value": [0], "scale_range": ["auto"], "accept": [],
    },
    "train": {"device": "auto", "launcher": "none"},
    "test": {"split": "test", "score_thr": 0.3, "precision": "fp32", "device": "auto", "launcher": "none"},
    "compare": {"seeds": [0, 1, 2], "records": [], "resamples": 2000},
    "predict": {
        "rates": [1.0], "padding_value": [104, 116, 124], "scale_range": ["auto"], "batch_size": 1, "score_thr": 0.05,
        "iou_thr": 0.1, "runtime": "auto", "device": "auto", "precision": "fp32", "nproc": 1, "launcher": "none",
    },
    "merge": {
        "iou_thr": 0.1, "nms": "obb", "score_thr": 0.0, "fuse": "nms", "fuse_iou_thr": 0.55, "classes": "v1.0",
        "task": 1, "nproc": 1,
    },
    "evaluate": {"metric": "voc07", "classes": "v1.0", "task": 1, "by": [], "seed": 0, "score_thr": 0.3},
    "submit": {"classes": "v1.0", "task": 1, "max_mb": 100.0},
    "show": {"score_thr": 0.3, "iou_thr": 0.5, "classes": "v1.0", "task": 1, "scale_range": ["auto"], "ext": ".jpg"},
    "export": {"shape": [1024, 1024], "batch_size": 1, "gap": 200, "precision": "fp32", "calibrate": []},
    "convert-checkpoint": {},
    "benchmark": {
        "shape": [1024, 1024], "batch_size": 1, "part": "features", "device": "auto", "rounds": 10, "warmup": 2
    },
    "flops": {"shape": [1024, 1024]},
    "spectrum": {"crop": 512, "max_images": 16, "device": "auto"},
    "feature-rank": {"crop": 512, "max_images": 16, "device": "auto"},
    "demo": {"work_dir": Path("work_dirs/demo"), "scenes": 180, "seed": 0},
    "gpu-check": {"device": "auto"},
    "doctor": {},
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_what_holds_without_a_flag(command: str) -> None:
    found = {action.dest: action.default for action in parser_of(command)._actions}
    by_the_machine = {("synthetic", "nproc"), ("split", "nproc"), ("verify", "nproc")}
    unset = (None, False, (), argparse.SUPPRESS)
    for name, value in found.items():
        if (command, name) not in by_the_machine and name != "local_rank":
            expected = DEFAULTS[command].get(name)
            assert value == expected or (expected is None and value in unset), f"{name}: {value!r}, not {expected!r}"
    assert set(DEFAULTS[command]) <= set(found)


def test_no_command_takes_a_bare_number() -> None:
    """``int`` and ``float`` take nan, 0 and -1; a choice of numbers is the exception."""
    for flag, actions in flags().items():
        for command, action in actions.items():
            assert action.type not in (int, float) or action.choices, f"{command} {flag}"


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (fraction, {"0": 0.0, "1": 1.0, "0.5": 0.5, "1e-3": 0.001}, ["-0.1", "1.01", "nan", "inf", "", "half"]),
        (positive_int, {"1": 1, "1024": 1024}, ["0", "-1", "1.5", "nan", "", "many"]),
        (non_negative_int, {"0": 0, "7": 7}, ["-1", "0.5", "nan", ""]),
        (positive_float, {"0.1": 0.1, "3": 3.0}, ["0", "-2", "nan", "inf", ""]),
        (device, dict(zip(*[("auto", "cpu", "cuda", "cuda:3")] * 2, strict=True)), ["gpu", "cuda:", "cuda:x", "0", ""]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_types_of_values(kind: Any, good: dict[str, Any], bad: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    parser = command_parser("test", "", "")
    parser.add_argument("--value", type=kind)
    for text, value in good.items():
        assert parser.parse_args([f"--value={text}"]).value == value
    for text in bad:
        with pytest.raises(SystemExit) as end:
            parser.parse_args([f"--value={text}"])
        assert end.value.code == 2
        line = capsys.readouterr().err
        assert line.startswith("error: argument --value: expected ")
        assert line.endswith(f", got {text!r}; see fdam-rotate test --help\n")
        assert line.count("\n") == 1


def test_key_and_value() -> None:
    words = ["a=5e-5", "b.c=None", "d=[1,2]", "e=true", "f=x,2", "g=a=b", 'h="(a,b)"', "i=FALSE", "j=[x,y]", "k=(x,1)"]
    assert dict(map(key_value, words)) == {
        "a": 5e-5, "b.c": None, "d": [1, 2], "e": True, "f": ["x", 2], "g": "a=b", "h": "(a,b)", "i": False,
        "j": ["x", "y"], "k": ["x", 1],
    }  # fmt: skip
    for word in ("=3", "a"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected KEY=VALUE"):
            key_value(word)


def test_inputs_are_looked_for_after_the_usage_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def check(parser: CommandParser, args: argparse.Namespace) -> None:
        with usage_errors(parser):
            if args.number == 3:
                raise DotaError("no three here")

    parser = command_parser("test", "", "", check)
    parser.add_argument("things", nargs="*", type=existing_path, metavar="THING")
    parser.add_argument("--file", type=existing_file)
    parser.add_argument("--folder", nargs=2, type=existing_folder)
    parser.add_argument("--config", type=config_file)
    parser.add_argument("--number", type=positive_int)
    there = tmp_path / "there"
    there.write_text("")
    here, file = str(tmp_path), str(there)
    args = parser.parse_args([here, file, "--file", file, "--folder", here, here, "--config", file])
    assert (args.things, args.file) == ([tmp_path, there], there)
    for words, error, message in (
        ([here, "gone"], FileNotFoundError, "THING: no such file or folder: gone"),
        (["--file", "gone"], FileNotFoundError, "--file: no such file: gone"),
        (["--file", here], IsADirectoryError, f"--file: {here} is a folder; a file is expected"),
        (["--folder", here, "gone"], FileNotFoundError, "--folder: no such folder: gone"),
        (["--folder", here, file], NotADirectoryError, f"--folder: {file} is a file; a folder is expected"),
    ):
        with pytest.raises(error) as caught:
            parser.parse_args(words)
        assert str(caught.value) == message
    for words, message in (
        (["gone", "--number", "0"], "error: argument --number: expected a whole number of at least 1, got '0'"),
        (["gone", "--number", "3"], "error: no three here"),
        (["gone", "--nothing"], "error: unrecognized arguments: --nothing"),
    ):
        with pytest.raises(SystemExit):
            parser.parse_args(words)
        assert capsys.readouterr().err == f"{message}; see fdam-rotate test --help\n"


# -- former names -----------------------------------------------------------------------------------------------------

#: Command, former words, today's.
FORMER = [
    ("download", ["out", "--dry-run"], ["--out", "out", "--dry-run"]),
    ("synthetic", ["out", "--classes", "ship", "plane"], ["--out", "out", "--classes", "ship,plane"]),
    ("convert-labels", [".", "out", "--to", "coco"], [".", "--out", "out", "--to", "coco"]),
    ("convert-checkpoint", [__file__, "out.pth"], [__file__, "--out", "out.pth"]),
    ("merge", [".", ".", "out"], [".", ".", "--out", "out"]),
    ("merge", [".", "--nproc", "2", "out"], [".", "--nproc", "2", "--out", "out"]),
    ("submit", [".", "out.zip"], [".", "--out", "out.zip"]),
    ("evaluate", [".", "--gt", ".", "--iou", "0.6", "0.7:0.8"],
     [".", "--gt", ".", "--iou-thr", "0.6", "0.7", "0.75", "0.8"]),
    ("show", [".", ".", "--out", "out", "--iou=0.6"], [".", ".", "--out", "out", "--iou-thr=0.6"]),
    ("train", ["lsk_fdam_demo", "--gpu-id", "2"], ["lsk_fdam_demo", "--device", "auto:2"]),
    ("test", ["--gpu-id", "2", "lsk_fdam_demo", __file__], ["--device", "auto:2", "lsk_fdam_demo", __file__]),
    ("predict", ["a.onnx", ".", "--out", "out", "--gpu-id=1"], ["a.onnx", ".", "--out", "out", "--device", "auto:1"]),
    ("export", ["lsk_fdam_demo", "--out", "o", "--batch", "2"], ["lsk_fdam_demo", "--out", "o", "--batch-size", "2"]),
    ("benchmark", ["lsk_fdam_demo", "--batch", "2"], ["lsk_fdam_demo", "--batch-size", "2"]),
    ("benchmark", ["lsk_fdam_demo", "--train"], ["lsk_fdam_demo", "--backward"]),
    ("spectrum", ["lsk_fdam_demo", "--images", ".", "--out", "o", "--size", "9", "--versus", "lsk_fdam_demo", __file__],
     ["lsk_fdam_demo", "--img-dir", ".", "--out", "o", "--crop", "9", "--second", "lsk_fdam_demo", __file__]),
]  # fmt: skip


@pytest.mark.parametrize(("command", "former", "today"), FORMER, ids=lambda value: " ".join(value)[:40])
def test_former_names_give_the_same_and_say_so(
    command: str,
    former: list[str],
    today: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.onnx").write_bytes(b"")
    expected = parser_of(command).parse_args(today)
    assert capsys.readouterr().err == ""
    assert parser_of(command).parse_args(former) == expected
    said = capsys.readouterr().err.splitlines()
    assert len(said) == {"synthetic": 2, "spectrum": 3}.get(command, 1)
    for line in said:
        assert line.startswith(f"note: fdam-rotate {command}: ")
        assert " is now " in line
        assert line.endswith("; the former spelling ends with version 0.3.0")


def test_former_names_are_not_in_the_help_and_are_listed_in_the_changes() -> None:
    changes = (Path(__file__).parents[2] / "CHANGELOG.md").read_text(encoding="utf-8")
    for command in COMMANDS:
        parser = parser_of(command)
        text = parser.format_help()
        for old, (new, _, _) in parser._former.items():
            if old != new:
                assert f"{old} " not in text.replace(new, "").replace("\n", " "), f"{command} {old}"
                assert f"`{old}`" in changes, f"{command} {old}"
                assert f"`{new}" in changes, f"{command} {new}"
        if parser._former_out is not None:
            assert parser._former_out not in text.partition("\n\n")[0]
            assert f"`{command}`" in changes


def test_what_follows_two_dashes_is_no_flag(capsys: pytest.CaptureFixture[str]) -> None:
    parser = command_parser("test", "", "")
    parser.add_argument("--new")
    parser.add_argument("words", nargs="*")
    parser.add_former("--old", "--new")
    args = parser.parse_args(["--old", "1", "--", "--old", "2"])
    assert (args.new, args.words) == ("1", ["--old", "2"])
    assert capsys.readouterr().err.count("note: ") == 1


def test_an_output_that_is_not_given_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = command_parser("test", "", "")
    parser.add_argument("detections", nargs="+", type=existing_path)
    add_out(parser, "the result")
    add_classes(parser)
    parser.add_former_out("OUT_DIR")
    for words in ([str(tmp_path)], [str(tmp_path), "--classes", "ship"]):
        with pytest.raises(SystemExit):
            parser.parse_args(words)
        assert "error: the following arguments are required: --out; see" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parser.parse_args([str(tmp_path), "--out", "a", "b"])
    assert "unrecognized arguments: b" in capsys.readouterr().err
    assert "usage: fdam-rotate test [-h] --out DIR" in parser.format_usage()
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    assert "[-h] --out DIR" in capsys.readouterr().out
