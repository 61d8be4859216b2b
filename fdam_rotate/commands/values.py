"""The types of the values that options and arguments take; imports nothing heavy, so that --help is instant."""

from __future__ import annotations

import argparse
import ast
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fdam_rotate.dota.classes import resolve_classes
from fdam_rotate.dota.errors import DotaError

__all__ = [
    "class_list",
    "config_file",
    "config_folder",
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
    "shipped_configs",
]


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
    return shipped_configs().get(name, path)


def config_folder() -> Path:
    """The folder of the configs: in the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    return next((folder for folder in (package / "configs", package.parent / "configs") if folder.is_dir()), package)


def shipped_configs() -> dict[str, Path]:
    """The configs that come with the package, by name alone and by folder and name."""
    folder = config_folder()
    found: dict[str, Path] = {}
    for path in sorted([*folder.glob("*/*.py"), *folder.glob("released/*/*.py")]):
        found[path.stem] = path
        found[path.relative_to(folder).with_suffix("").as_posix()] = path
    return found
