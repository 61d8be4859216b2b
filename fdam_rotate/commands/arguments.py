"""Options that commands share, and the types of their values; imports nothing heavy, so that --help is instant."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fdam_rotate.dota.classes import resolve_classes
from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.names import did_you_mean

if TYPE_CHECKING:
    from fdam_rotate.dota.rasters.options import RasterOptions

__all__ = [
    "add_class_options",
    "add_device",
    "add_precision",
    "add_raster_arguments",
    "add_run_arguments",
    "check_run_arguments",
    "command_parser",
    "config_file",
    "output_file",
    "output_folder",
    "parse_options",
    "raster_options",
    "require_files",
]


def command_parser(name: str, description: str | None, script: str) -> argparse.ArgumentParser:
    """The parser of one command; its usage lines name ``fdam-rotate``, whichever way it was started.

    Args:
        name: of the command.
        description: the docstring of its module.
        script: the same command in a checkout.
    """
    return argparse.ArgumentParser(
        prog=f"fdam-rotate {name}",
        description=description,
        epilog=f"The same in a checkout: python {script}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_class_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--classes``, whose value is a tuple of names, and ``--task``, 1 or 2."""
    parser.add_argument(
        "--classes",
        type=_class_list,
        default="v1.0",
        help="DOTA version (v1.0, v1.5, v2.0), a .txt file with a name per line, or names with commas (default: v1.0)",
    )
    parser.add_argument(
        "--task", type=int, choices=(1, 2), default=1, help="1: oriented boxes (default); 2: horizontal boxes"
    )


def _class_list(text: str) -> tuple[str, ...]:
    try:
        return resolve_classes(text)
    except DotaError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_precision(parser: argparse.ArgumentParser) -> None:
    """Add ``--precision``."""
    help = "bf16: networks in bfloat16, faster where the processor has it; boxes and scores differ a little"
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help=f"{help} (default: fp32)")


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


def config_folder() -> Path:
    """The folder of the configs: in the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    return next((folder for folder in (package / "configs", package.parent / "configs") if folder.is_dir()), package)


def config_file(text: str) -> Path:
    """Type of an option that names a config: a file, or the name of one that comes with the package.

    ``lsk_s_fpn_1x_dota_le90``, ``lsknet/lsk_s_fpn_1x_dota_le90.py`` and ``configs/lsknet/lsk_s_fpn_1x_dota_le90.py``
    are found from any folder. What is not found is returned as it is; `require_files` reports it.
    """
    path = Path(text)
    if path.exists() or path.is_absolute():
        return path
    name = text.removeprefix("configs/").removesuffix(".py")
    return _shipped_configs().get(name, path)


def require_files(*paths: str | Path | None) -> None:
    """Check that files are there before anything slow begins; None is passed over.

    Raises:
        FileNotFoundError: one is not.
    """
    for path in paths:
        if path is not None and not Path(path).is_file():
            name = Path(path).stem
            hint = did_you_mean(name, _shipped_configs()) if Path(path).suffix in ("", ".py") else ""
            raise FileNotFoundError(f"no such file: {path}{hint}")


def _shipped_configs() -> dict[str, Path]:
    """The configs that come with the package, by name alone and by folder and name."""
    folder = config_folder()
    found: dict[str, Path] = {}
    for path in sorted([*folder.glob("*/*.py"), *folder.glob("released/*/*.py")]):
        found[path.stem] = path
        found[path.relative_to(folder).with_suffix("").as_posix()] = path
    return found


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a model, perhaps a second, images, and a folder for the results."""
    parser.add_argument("config", type=config_file, help="config file (Python)")
    parser.add_argument("checkpoint", type=Path, nargs="?", help="checkpoint; without it the weights are random")
    parser.add_argument("--images", type=Path, required=True, help="folder of images; the centre of each is used")
    parser.add_argument("--out", type=Path, required=True, help="folder for picture and JSON; must be new or empty")
    parser.add_argument("--versus", nargs=2, metavar=("CONFIG", "CHECKPOINT"), help="a second model beside the first")
    parser.add_argument("--layers", nargs="+", help="modules, such as backbone.block1.0 (default: blocks and neck)")
    parser.add_argument("--size", type=int, default=512, help="side of the square cut from each image, pixels (512)")
    parser.add_argument("--max-images", type=int, default=16, help="how many images, by name (default: 16)")
    add_device(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace the files of an earlier run in --out")
    parser.add_argument("--unsafe-load", action="store_true", help="open checkpoints that carry code; only if trusted")


def check_run_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Leave with a usage error (code 2) where a number of :func:`add_run_arguments` makes no sense."""
    if min(args.size, args.max_images) < 1:
        parser.error("--size and --max-images must be at least 1")


def measure_layers(args: argparse.Namespace, measure: Callable[..., list[Any]], stem: str) -> dict[str, list[Any]]:
    """What ``measure_runs`` gives for :func:`add_run_arguments`; its files are ``stem``.png and ``stem``.json."""
    from fdam_rotate.apis.analysis.runs import measure_runs

    return measure_runs(
        measure,
        args.config,
        args.checkpoint,
        args.images,
        args.out,
        versus=args.versus,
        layers=args.layers,
        size=args.size,
        max_images=args.max_images,
        device=args.device,
        names=[f"{stem}.png", f"{stem}.json"],
        overwrite=args.overwrite,
        unsafe=args.unsafe_load,
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``; whether this machine has it, ``features.find_device`` says."""
    parser.add_argument("--device", type=_device, default="cpu", help="cpu, cuda or cuda:N (default: cpu)")


def _device(text: str) -> str:
    if not re.fullmatch(r"cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"expected cpu, cuda or cuda:N, got {text!r}")
    return text
