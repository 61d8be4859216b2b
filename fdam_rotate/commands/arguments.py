"""Options that commands share, and the types of their values; imports nothing heavy, so that --help is instant.

One flag has one type and one meaning in every command: ``--out``, ``--overwrite``, ``--classes``, ``--task``,
``--iou-thr``, ``--score-thr`` and ``--device`` above all. A flag that has another name in MMRotate has that name too.
"""

from __future__ import annotations

import argparse
import ast
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fdam_rotate.dota.classes import resolve_classes
from fdam_rotate.dota.csvtext import CSV_COLUMNS
from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.formats.table import FORMATS
from fdam_rotate.dota.names import did_you_mean

if TYPE_CHECKING:
    from fdam_rotate.dota.rasters.options import RasterOptions

__all__ = [
    "CommandParser",
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
    "class_list",
    "command_parser",
    "config_file",
    "device",
    "existing_file",
    "existing_folder",
    "existing_path",
    "fraction",
    "gpu_number",
    "key_value",
    "non_negative_int",
    "output_file",
    "output_folder",
    "positive_float",
    "positive_int",
    "problem_kind",
    "raster_options",
    "usage_errors",
]

#: The version from which the former names of flags are gone.
FORMER_NAMES_END = "0.3.0"


class CommandParser(argparse.ArgumentParser):
    """The parser of one command.

    A usage error is one line. Former names of flags work, with one line on stderr, and are not in ``--help``. Files and
    folders to read (types `existing_file`, `existing_folder`, `existing_path`, `config_file`) are looked for once all
    words are understood; one that is missing is a `FileNotFoundError`, as it is in the library.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._former: dict[str, tuple[str, Callable[[list[str]], list[str]] | None, bool]] = {}
        self._former_out: str | None = None
        #: What is asked of several options together: it calls ``parser.error``.
        self.check: Callable[[CommandParser, argparse.Namespace], None] | None = None

    def add_former(
        self, old: str, new: str, rewrite: Callable[[list[str]], list[str]] | None = None, *, many: bool = False
    ) -> None:
        """Take the flag ``old`` for ``new``.

        Args:
            old: the former name; the present one where only its values were written in another way.
            new: the present name.
            rewrite: makes the values of ``new`` of those of ``old``; None: they are the same.
            many: whether ``rewrite`` gets all words up to the next flag, in place of one.
        """
        self._former[old] = (new, rewrite, many)

    def add_former_out(self, metavar: str) -> None:
        """Take the last word that has no flag for the value of ``--out`` where that is not given."""
        self._former_out = metavar

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As argparse does; then options are checked together, then the files and folders to read are looked for."""
        found = super().parse_args(args, namespace)
        if self.check is not None:
            self.check(self, found)
        for action in self._actions:
            value = getattr(found, action.dest, None)
            for path in value if isinstance(value, (list, tuple)) else [value]:
                if path is not None:
                    _check_input(action, path)
        return found

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As argparse does, former names of flags included."""
        words = self._respelled(list(sys.argv[1:] if args is None else args))
        out = self._option_string_actions.get("--out")
        if out is None or self._former_out is None:
            return super().parse_known_args(words, namespace)
        needed = out.required
        out.required = needed and bool({"-h", "--help"} & set(words))  # only its help says that it is needed
        try:
            found, rest = super().parse_known_args(words, namespace)
        finally:
            out.required = needed
        if found.out is None:
            place = _last_word(found, rest)
            if place is not None:
                self._note(f"{self._former_out} is now --out {out.metavar}")
                found.out = Path(place)
            elif needed:
                self.error("the following arguments are required: --out")
        return found, rest

    def error(self, message: str) -> Any:
        """End the program with exit code 2 and one line."""
        self.exit(2, f"error: {message}; see {self.prog} --help\n")

    def _respelled(self, words: list[str]) -> list[str]:
        """The words with today's names of flags."""
        done: list[str] = []
        while words:
            word = words.pop(0)
            if word == "--":
                return [*done, word, *words]
            flag, equals, value = word.partition("=")
            if flag not in self._former:
                done.append(word)
                continue
            new, rewrite, many = self._former[flag]
            values = [value] if equals else []
            while rewrite and not equals and words and not words[0].startswith("-") and (many or not values):
                values.append(words.pop(0))
            changed = rewrite(values) if rewrite and values else values
            if new != flag or changed != values:
                self._note(f"{' '.join([flag, *values])} is now {' '.join([new, *changed])}")
            done += [f"{new}={value}"] if equals and not rewrite else [new, *changed]
        return done

    def _note(self, what: str) -> None:
        print(f"note: {self.prog}: {what}; the former spelling ends with version {FORMER_NAMES_END}", file=sys.stderr)


def _last_word(found: argparse.Namespace, rest: list[str]) -> str | None:
    """The last word without a flag, taken from what argparse left over or else from the detections."""
    free = [word for word in rest if not word.startswith("-")]
    if free:
        rest.remove(free[-1])
        return free[-1]
    detections = getattr(found, "detections", None)
    return str(detections.pop()) if isinstance(detections, list) and len(detections) > 1 else None


def _check_input(action: argparse.Action, path: Any) -> None:
    """Look for a file or folder to read, if the type of the argument says that it is one.

    Raises:
        OSError: it is missing, or of the other kind.
    """
    name = "/".join(action.option_strings) or (action.metavar if isinstance(action.metavar, str) else action.dest)
    kinds = {existing_file: "file", config_file: "file", existing_folder: "folder", existing_path: "file or folder"}
    kind = kinds.get(action.type)
    if kind is None:
        return
    if not path.exists():
        hint = did_you_mean(path.stem, _shipped_configs()) if action.type is config_file else ""
        raise FileNotFoundError(f"{name}: no such {kind}: {path}{hint}")
    if kind == "file" and path.is_dir():
        raise IsADirectoryError(f"{name}: {path} is a folder; a file is expected")
    if kind == "folder" and not path.is_dir():
        raise NotADirectoryError(f"{name}: {path} is a file; a folder is expected")


def command_parser(
    name: str,
    description: str | None,
    script: str,
    check: Callable[[CommandParser, argparse.Namespace], None] | None = None,
) -> CommandParser:
    """The parser of one command; its usage lines name ``fdam-rotate``, whichever way it was started.

    Args:
        name: of the command.
        description: the docstring of its module.
        script: the same command in a checkout.
        check: what is asked of several options together; it calls ``parser.error``.
    """
    parser = CommandParser(
        prog=f"fdam-rotate {name}",
        description=description,
        epilog=f"The same in a checkout: python {script}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.check = check
    return parser


@contextmanager
def usage_errors(parser: argparse.ArgumentParser) -> Iterator[None]:
    """Turn what the library says of several options together into a usage error."""
    try:
        yield
    except DotaError as error:
        parser.error(str(error))


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


# -- types of values --------------------------------------------------------------------------------------------------


def positive_int(text: str) -> int:
    """Type of an option: a whole number of at least 1."""
    return _number(text, int, lambda number: number >= 1, "a whole number of at least 1")


def non_negative_int(text: str) -> int:
    """Type of an option: a whole number of at least 0."""
    return _number(text, int, lambda number: number >= 0, "a whole number of at least 0")


def positive_float(text: str) -> float:
    """Type of an option: a finite number above 0."""
    return _number(text, float, lambda number: 0 < number < math.inf, "a number above 0")


def fraction(text: str) -> float:
    """Type of an option: a number from 0 to 1, both included."""
    return _number(text, float, lambda number: 0 <= number <= 1, "a number from 0 to 1")


def _number(text: str, kind: Callable[[str], Any], holds: Callable[[Any], bool], expected: str) -> Any:
    try:
        number = kind(text)
    except ValueError:
        number = math.nan
    if not holds(number):
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
    return number


def existing_file(text: str) -> Path:
    """Type of an argument that names a file to read; `CommandParser.parse_args` looks for it."""
    return Path(text)


def existing_folder(text: str) -> Path:
    """Type of an argument that names a folder to read; `CommandParser.parse_args` looks for it."""
    return Path(text)


def existing_path(text: str) -> Path:
    """Type of an argument that names a file or a folder to read; `CommandParser.parse_args` looks for it."""
    return Path(text)


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


def class_list(text: str) -> tuple[str, ...]:
    """Type of an option that names classes: a version of DOTA, a ``.txt`` file, or names with commas."""
    try:
        return resolve_classes(text)
    except DotaError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def device(text: str) -> str:
    """Type of an option that names a device; whether this machine has it, ``apis.runtime.find_device`` says."""
    if not re.fullmatch(r"auto(:\d+)?|cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"expected auto, cpu, cuda or cuda:N, got {text!r}")
    return text


def gpu_number(words: list[str]) -> list[str]:
    """The value of ``--device`` for that of MMRotate's ``--gpu-id``, which counts for nothing where there is no GPU."""
    return [f"auto:{word}" for word in words]


def problem_kind(module: str) -> Callable[[str], str]:
    """Type of an option that names one of the ``PROBLEM_KINDS`` of a module, which is imported when it is needed."""

    def problem_kind(text: str) -> str:
        import importlib

        kinds: Sequence[str] = importlib.import_module(module).PROBLEM_KINDS
        if text not in kinds:
            raise argparse.ArgumentTypeError(f"no kind of problem {text!r}; the kinds are {' '.join(kinds)}")
        return text

    return problem_kind


def key_value(text: str) -> tuple[str, Any]:
    """Type of a ``KEY=VALUE`` word, as ``--cfg-options`` of MMRotate takes them.

    The value is a Python literal (``5e-5``, ``None``, ``True``, ``[1,2]``, ``"(a,b)"``), ``true`` or ``false``, a
    comma-separated list of those, or else text.
    """
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got {text!r}")
    return key, _literal(value)


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


def config_file(text: str) -> Path:
    """Type of an argument that names a config: a file, or the name of one that comes with the package.

    ``lsk_s_fpn_1x_dota_le90``, ``lsknet/lsk_s_fpn_1x_dota_le90.py`` and ``configs/lsknet/lsk_s_fpn_1x_dota_le90.py``
    are found from any folder. What is not found is returned as it is; `CommandParser.parse_args` reports it.
    """
    path = Path(text)
    if path.exists() or path.is_absolute():
        return path
    name = text.removeprefix("configs/").removesuffix(".py")
    return _shipped_configs().get(name, path)


def config_folder() -> Path:
    """The folder of the configs: in the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    return next((folder for folder in (package / "configs", package.parent / "configs") if folder.is_dir()), package)


def _shipped_configs() -> dict[str, Path]:
    """The configs that come with the package, by name alone and by folder and name."""
    folder = config_folder()
    found: dict[str, Path] = {}
    for path in sorted([*folder.glob("*/*.py"), *folder.glob("released/*/*.py")]):
        found[path.stem] = path
        found[path.relative_to(folder).with_suffix("").as_posix()] = path
    return found


# -- options ----------------------------------------------------------------------------------------------------------

_Group = argparse._ActionsContainer  # a parser or a group of one


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
