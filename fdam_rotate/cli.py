"""What the command lines share: errors as one line, exit codes (0 done, 1 failed on data, 2 usage), options."""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fdam_rotate.dota.classes import resolve_classes
from fdam_rotate.dota.errors import DotaError, ScoreError

if TYPE_CHECKING:
    from fdam_rotate.dota.rasters.options import RasterOptions

__all__ = [
    "add_class_options",
    "add_raster_arguments",
    "output_file",
    "output_folder",
    "parse_options",
    "raster_options",
    "run",
]


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


def add_raster_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--bands`` and ``--scale-range``; `raster_options` reads them."""
    add = parser.add_argument_group("rasters (TIFF, JPEG 2000, images of 16 bits; docs/rasters.md)").add_argument
    bands = (
        "numbers, from 1, of the bands that are red, green and blue, or of one for grey (default: those that the file "
        "names so, else its first three; alpha is never a colour)"
    )
    add("--bands", nargs="+", type=int, metavar="N", help=bands)
    scale_range = (
        "values that become 0 and 255, such as 0 2047; 8-bit images stay as they are (default auto: for each image the "
        "values below which 0.5 %% and 99.5 %% of all lie)"
    )
    add("--scale-range", nargs="+", default=["auto"], metavar="V", help=f"auto, or LOW HIGH: {scale_range}")


def raster_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> RasterOptions:
    """The values of `add_raster_arguments`; impossible ones end the program with a usage error."""
    from fdam_rotate.dota.rasters.options import RasterOptions

    words = [args.scale_range] if isinstance(args.scale_range, str) else list(args.scale_range)
    scale_range: Any = "auto"
    if words != ["auto"]:
        try:
            scale_range = tuple(float(word) for word in words)
        except ValueError:
            scale_range = ()
        if len(scale_range) != 2:
            parser.error(f"--scale-range: expected auto, or LOW HIGH, got {' '.join(map(str, words))}")
    try:
        return RasterOptions(args.bands, scale_range)
    except DotaError as error:
        parser.error(f"--bands, --scale-range: {error}")


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
