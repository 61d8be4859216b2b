"""Whatever is given for an option or a file, a command ends with an exit code or one line: never with a traceback."""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.splitting.split import run_split

LABEL = "20 20 80 20 80 80 20 80 ship 0\n"
FOUND = "a 0.9 20 20 80 20 80 80 20 80\n"
WORDS = ("", "abc", "-1", "0", "nan", "1e400", "a b", "..")

#: Command -> words that work in the folder of `data`.
GOOD = {
    "verify": ["set"],
    "split": ["--img-dirs", "set/images", "--ann-dirs", "set/labelTxt", "--out", "out", "--nproc", "1"],
    "convert-labels": ["set", "--out", "out", "--to", "coco"],
    "synthetic": ["--out", "out", "--train", "1", "--val", "0", "--size", "64", "--nproc", "1"],
    "merge": ["patches", "--out", "out", "--classes", "ship"],
    "evaluate": ["found", "--gt", "set/labelTxt", "--classes", "ship"],
    "submit": ["found", "--out", "out.zip", "--classes", "ship"],
    "show": ["set/images", "found", "--gt", "set/labelTxt", "--out", "out", "--classes", "ship"],
    "download": ["--out", "out", "--dry-run"],
}
#: Not tried here: it waits for an address.
PASSED_OVER = {"--scheduler", "--help"}


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of every wrong kind, beside a small data set."""
    root = tmp_path_factory.mktemp("things")
    for folder in ("set/images", "set/labelTxt", "found", "patches", "empty"):
        (root / folder).mkdir(parents=True)
    assert cv2.imwrite(str(root / "set/images/a.png"), np.full((100, 120, 3), 90, np.uint8))
    (root / "set/labelTxt/a.txt").write_text(LABEL)
    (root / "found/Task1_ship.txt").write_text(FOUND)
    (root / "patches/Task1_ship.txt").write_text(FOUND.replace("a ", "a__1024__0___0 "))
    run_split([root / "set/images"], [root / "set/labelTxt"], root / "split")
    (root / "nothing.txt").write_bytes(b"")
    (root / "noise.bin").write_bytes(bytes(range(256)) * 9)
    (root / "latin.txt").write_bytes("ship\nbateau à voile\n".encode("latin-1"))
    (root / "latin.json").write_bytes('{"é": 1}'.encode("latin-1"))
    (root / "half.json").write_text('{"images": [')
    (root / "deep.json").write_text("[" * 100_000 + "]" * 100_000)
    for number, content in enumerate(([], {}, 3, None, [1, {}], {"images": 3}, {"images": [{}], "annotations": [[]]})):
        (root / f"shape{number}.json").write_text(json.dumps(content))
    (root / "half.zip").write_bytes(b"PK\x03\x04 and no more")
    (root / "picture.txt").write_bytes((root / "set/images/a.png").read_bytes())
    (root / "notes.xml").write_text("<annotations><image/></annotations>")
    return root


def bad_files(root: Path) -> list[str]:
    return [str(path) for path in sorted(root.iterdir())] + [str(root / "missing"), str(root / "nothing.txt" / "below")]


def attempts(command: str, root: Path) -> Iterator[list[str]]:
    """The good words with one of them made bad."""
    good = [str(root / word) if (root / word).exists() else word for word in GOOD[command]]
    parser: argparse.ArgumentParser = importlib.import_module(
        f"fdam_rotate.commands.{command.replace('-', '_')}"
    ).build_parser()
    yield good
    for action in parser._actions:
        option = next((name for name in action.option_strings if name.startswith("--")), None)
        if action.nargs == 0 or option in PASSED_OVER:
            continue
        if option is not None:
            for bad in (*WORDS, *bad_files(root)):
                count = action.nargs if isinstance(action.nargs, int) else 1
                yield [*good, option, *([bad] * count)]
    for place, word in enumerate(good):
        if word.startswith(str(root)):
            for bad in (*WORDS, *bad_files(root)):
                yield [*good[:place], bad, *good[place + 1 :]]


@pytest.mark.parametrize("command", GOOD)
def test_every_mistake_is_an_exit_code_or_a_line(
    command: str, things: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main: Callable[[list[str]], int] = importlib.import_module(f"fdam_rotate.commands.{command.replace('-', '_')}").main
    failed: dict[str, str] = {}
    for number, argv in enumerate(attempts(command, things)):
        workplace = tmp_path / str(number)
        workplace.mkdir()
        monkeypatch.chdir(workplace)
        shown = " ".join(argv).replace(str(things), "$")
        try:
            code = main(argv)
        except SystemExit as stop:
            code = 0 if stop.code == 2 else stop.code
        except (DotaError, OSError) as error:
            code = str(error).count("\n") * 10
        except Exception as error:
            code = f"{type(error).__name__}: {error}"[:200]
        if code not in (0, 1, 2):
            failed.setdefault(str(code), shown)
    assert not failed, "\n".join(f"{words}: {what}" for what, words in failed.items())
