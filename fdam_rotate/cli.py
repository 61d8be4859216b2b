"""What the command lines share: errors as one line, exit codes (0 done, 1 failed on data, 2 usage), options."""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fdam_rotate.dota.classes import resolve_classes
from fdam_rotate.dota.errors import DotaError, ScoreError

__all__ = ["add_class_options", "output_file", "output_folder", "parse_options", "run"]


def run(main: Callable[[], int]) -> None:
    """Exit with what ``main`` returns; bad data and missing files become one line on stderr, not a traceback."""
    try:
        code = main()
    except ScoreError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except (DotaError, FloatingPointError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    raise SystemExit(code)


def add_class_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--classes``, whose value is a tuple of names, and ``--task``, 1 or 2."""
    parser.add_argument(
        "--classes",
        type=_class_list,
        default="v1.0",
        help="DOTA version (v1.0, v1.5, v2.0), a .txt file with one name a line, or names with commas (default: v1.0)",
    )
    parser.add_argument(
        "--task", type=int, choices=(1, 2), default=1, help="1: oriented boxes (default); 2: horizontal boxes"
    )


def _class_list(text: str) -> tuple[str, ...]:
    try:
        return resolve_classes(text)
    except DotaError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def output_file(text: str) -> Path:
    """Type of an option that names a file to write."""
    if Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder; give a file")
    return Path(text)


def output_folder(text: str) -> Path:
    """Type of an option that names a folder to write to."""
    if Path(text).is_file():
        raise argparse.ArgumentTypeError(f"{text} is a file; give a folder")
    return Path(text)


def parse_options(parser: argparse.ArgumentParser, words: Sequence[str] | None) -> dict[str, Any]:
    """``KEY=VALUE`` words as a dict, as ``--cfg-options`` of MMRotate takes them.

    A value is a Python literal (``5e-5``, ``None``, ``True``, ``[1,2]``, ``"(a,b)"``), ``true`` or ``false``, a
    comma-separated list of those, or else text.
    """
    options: dict[str, Any] = {}
    for word in words or ():
        key, equals, value = word.partition("=")
        if not key or not equals:
            parser.error(f"expected KEY=VALUE, got {word!r}")
        options[key] = _literal(value)
    return options


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        pass
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    inner = text[1:-1] if text[:1] + text[-1:] in ("[]", "()") else text
    if "," in inner:
        return [_literal(part.strip()) for part in inner.split(",")]
    return text
