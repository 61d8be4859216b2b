"""Options that commands share.

One flag has one type and one meaning in every command: ``--out``, ``--overwrite``, ``--classes``, ``--task``,
``--iou-thr``, ``--score-thr`` and ``--device`` above all. A flag that has another name in MMRotate has that name too.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fdam_rotate.commands.parser import CommandParser, usage_errors
from fdam_rotate.commands.values import (
    class_list,
    config_file,
    device,
    existing_file,
    existing_folder,
    fraction,
    key_value,
    non_negative_int,
    positive_int,
)
from fdam_rotate.dota.csvtext import CSV_COLUMNS
from fdam_rotate.dota.formats.table import FORMATS

if TYPE_CHECKING:
    from fdam_rotate.dota.rasters.options import RasterOptions

__all__ = [
    "add_cfg_options",
    "add_classes",
    "add_detection_files",
    "add_device",
    "add_iou_thr",
    "add_nms_agnostic",
    "add_out",
    "add_overwrite",
    "add_precision",
    "add_raster_arguments",
    "add_run_arguments",
    "add_score_thr",
    "add_task",
    "add_unsafe_load",
    "add_workers",
    "measure_layers",
    "raster_options",
]

_Group = argparse._ActionsContainer  # a parser or a group of one


def add_workers(parser: Any, processes: str, default: int = 1) -> None:
    """Add ``--nproc`` and ``--scheduler`` to a parser or a group.

    Args:
        parser: the parser, or a group of it.
        processes: what those of ``--nproc`` are.
        default: of ``--nproc``.
    """
    parser.add_argument(
        "--nproc", type=positive_int, default=default, metavar="N", help=f"{processes} (default: {default})"
    )
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="a Dask scheduler, such as tcp://node1:8786, whose workers take the place of the processes; all must see "
        "the same folders (pip install dask distributed)",
    )


def add_out(
    parser: _Group, what: str, *, metavar: str = "DIR", mmrotate: str | None = None, required: bool = True
) -> None:
    """Add ``--out``: the folder (``DIR``) or file (``FILE``) that the command writes.

    Args:
        parser: or a group of one.
        what: the help.
        metavar: ``DIR`` or ``FILE``.
        mmrotate: the name of this flag in MMRotate.
        required: whether there is no default.
    """
    names = ["--out", *([mmrotate] if mmrotate else [])]
    parser.add_argument(*names, dest="out", type=Path, metavar=metavar, required=required, help=what)


def add_overwrite(parser: _Group, what: str) -> None:
    """Add ``--overwrite``: what an earlier run of the command wrote, and nothing else, may be replaced."""
    parser.add_argument("--overwrite", action="store_true", help=f"replace {what}")


def add_classes(parser: _Group, default: str | None = "v1.0", *, what: str = "classes", without: str = "") -> None:
    """Add ``--classes``, whose value is a tuple of names.

    Args:
        parser: or a group of one.
        default: the list that holds without the flag; None: None.
        what: what the classes are for.
        without: what holds without the flag, where ``default`` does not say it.
    """
    parser.add_argument(
        "--classes",
        type=class_list,
        default=default,
        metavar="LIST",
        help=f"{what}: v1.0, v1.5 or v2.0 (of DOTA), a .txt file with a name per line, or names with commas (default: "
        f"{without or default})",
    )


def add_task(parser: _Group) -> None:
    """Add ``--task``, 1 or 2."""
    parser.add_argument(
        "--task", type=int, choices=(1, 2), default=1, help="1: oriented boxes (default); 2: horizontal boxes"
    )


def add_iou_thr(parser: _Group, what: str, default: float | None, **more: Any) -> None:
    """Add ``--iou-thr``: the overlap (IoU) above which two boxes are taken for one object."""
    without = "" if default is None else f" (default: {default:g})"
    parser.add_argument(
        "--iou-thr", type=fraction, default=default, metavar="IOU", help=f"{what}, 0 to 1{without}", **more
    )


def add_score_thr(parser: _Group, what: str, default: float, *, mmrotate: str | None = None) -> None:
    """Add ``--score-thr``: the least score of a detection that counts."""
    names = ["--score-thr", *([mmrotate] if mmrotate else [])]
    parser.add_argument(
        *names, dest="score_thr", type=fraction, default=default, metavar="SCORE", help=f"{what} (default: {default:g})"
    )


def add_nms_agnostic(parser: _Group) -> None:
    """Add ``--nms-agnostic``: boxes suppress each other whatever their classes are."""
    parser.add_argument(
        "--nms-agnostic", action="store_true", help="merging: a box goes if a better one of any class overlaps it"
    )


def add_detection_files(parser: _Group, needs: str = "") -> None:
    """Add ``--labels`` and ``--csv``: the detections in further forms.

    Args:
        parser: or a group of one.
        needs: what ``--labels`` needs beside it.
    """
    parser.add_argument(
        "--labels",
        choices=tuple(FORMATS),
        metavar="FORMAT",
        help=f"also write OUT/labels, to correct by hand and train again{needs}: {', '.join(FORMATS)}",
    )
    parser.add_argument("--csv", action="store_true", help=f"also write OUT/Task1.csv: {','.join(CSV_COLUMNS[1])}")


def add_device(parser: CommandParser, what: str = "") -> None:
    """Add ``--device``."""
    parser.add_argument(
        "--device",
        type=device,
        default="auto",
        metavar="DEVICE",
        help=f"cpu, cuda, cuda:N or auto: a GPU where there is one (default: auto){what}",
    )


def add_precision(parser: _Group) -> None:
    """Add ``--precision``."""
    help = "bf16: networks in bfloat16, faster where the processor has it; boxes and scores differ a little"
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help=f"{help} (default: fp32)")


def add_cfg_options(parser: _Group, what: str = "override settings of the config") -> None:
    """Add ``--cfg-options``, whose value is a list of pairs, or None."""
    parser.add_argument("--cfg-options", nargs="+", type=key_value, default=(), metavar="KEY=VALUE", help=what)


def add_unsafe_load(parser: _Group) -> None:
    """Add ``--unsafe-load``."""
    parser.add_argument("--unsafe-load", action="store_true", help="open checkpoints that carry code; only if trusted")


def add_raster_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--bands`` and ``--scale-range``; `raster_options` reads them."""
    add = parser.add_argument_group("rasters (TIFF, JPEG 2000, images of 16 bits; docs/rasters.md)").add_argument
    bands = (
        "numbers, from 1, of the bands that are red, green and blue, or of one for grey (default: those that the file "
        "names so, else its first three; alpha is never a colour)"
    )
    add("--bands", nargs="+", type=positive_int, metavar="N", help=bands)
    scale_range = (
        "values that become 0 and 255, such as 0 2047; 8-bit images stay as they are (default auto: for each image the "
        "values below which 0.5 %% and 99.5 %% of all lie)"
    )
    add(
        "--scale-range",
        nargs="+",
        type=_scale_value,
        default=["auto"],
        metavar="V",
        help=f"auto, or LOW HIGH: {scale_range}",
    )


def add_padding_value(parser: _Group, default: Sequence[int], told: str) -> None:
    """Add ``--padding-value``, what lies outside an image in patches and windows at its border."""
    padding = f"what patches at the border are filled up with: one value, or blue green red, 0 to 255 (default {told})"
    parser.add_argument(
        "--padding-value", nargs="+", type=non_negative_int, default=list(default), metavar="V", help=padding
    )


def _scale_value(text: str) -> float | str:
    if text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected auto or a number, got {text!r}") from None


def raster_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> RasterOptions:
    """The values of `add_raster_arguments`; impossible ones end the program with a usage error."""
    from fdam_rotate.dota.rasters.options import RasterOptions

    values = list(args.scale_range)
    if values != ["auto"] and (len(values) != 2 or "auto" in values):
        parser.error(f"--scale-range: expected auto, or LOW HIGH, got {' '.join(map(str, values))}")
    with usage_errors(parser):
        return RasterOptions(args.bands, "auto" if values == ["auto"] else (values[0], values[1]))


def add_run_arguments(parser: CommandParser) -> None:
    """Add a model, perhaps a second, images, and a folder for the results."""
    parser.add_argument("config", type=config_file, help="config file (Python)")
    parser.add_argument(
        "checkpoint", type=existing_file, nargs="?", help="checkpoint; without it the weights are random"
    )
    parser.add_argument(
        "--img-dir",
        type=existing_folder,
        required=True,
        metavar="DIR",
        help="folder of images; the centre of each is used",
    )
    add_out(parser, "folder for picture and JSON; must be new or empty")
    parser.add_argument(
        "--second", nargs=2, type=config_file, metavar=("CONFIG", "CHECKPOINT"), help="a second model beside the first"
    )
    parser.add_argument("--layers", nargs="+", help="modules, such as backbone.block1.0 (default: blocks and neck)")
    parser.add_argument(
        "--crop",
        type=positive_int,
        default=512,
        metavar="PX",
        help="side of the square cut from each image (default: 512)",
    )
    parser.add_argument("--max-images", type=positive_int, default=16, help="how many images, by name (default: 16)")
    add_device(parser)
    add_overwrite(parser, "the files of an earlier run in --out")
    add_unsafe_load(parser)
    parser.add_former("--images", "--img-dir")
    parser.add_former("--size", "--crop")
    parser.add_former("--versus", "--second")


def measure_layers(args: argparse.Namespace, measure: Callable[..., list[Any]], stem: str) -> dict[str, list[Any]]:
    """What ``measure_runs`` gives for :func:`add_run_arguments`; its files are ``stem``.png and ``stem``.json."""
    from fdam_rotate.apis.analysis.runs import measure_runs

    return measure_runs(
        measure,
        args.config,
        args.checkpoint,
        args.img_dir,
        args.out,
        second=args.second,
        layers=args.layers,
        size=args.crop,
        max_images=args.max_images,
        device=args.device,
        names=[f"{stem}.png", f"{stem}.json"],
        overwrite=args.overwrite,
        unsafe=args.unsafe_load,
    )
