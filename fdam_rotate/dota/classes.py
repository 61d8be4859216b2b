"""The class lists of DOTA, in the order of MMRotate's ``DOTADataset.CLASSES``, with its drawing colours (RGB)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.names import class_name

__all__ = ["DOTA_CLASSES", "PALETTE", "class_colour", "colour_of", "resolve_classes"]

_V10 = (
    "plane", "baseball-diamond", "bridge", "ground-track-field", "small-vehicle", "large-vehicle", "ship",
    "tennis-court", "basketball-court", "storage-tank", "soccer-ball-field", "roundabout", "harbor",
    "swimming-pool", "helicopter",
)  # fmt: skip

#: Class names by version of DOTA: fifteen, sixteen and eighteen.
DOTA_CLASSES: dict[str, tuple[str, ...]] = {
    "v1.0": _V10,
    "v1.5": (*_V10, "container-crane"),
    "v2.0": (*_V10, "container-crane", "airport", "helipad"),
}

#: One RGB colour per class, in the order of ``DOTA_CLASSES['v2.0']``; the first fifteen are MMRotate's.
PALETTE: tuple[tuple[int, int, int], ...] = (
    (165, 42, 42), (189, 183, 107), (0, 255, 0), (255, 0, 0), (138, 43, 226), (255, 128, 0), (255, 0, 255),
    (0, 255, 255), (255, 193, 193), (0, 51, 153), (255, 250, 205), (0, 139, 139), (255, 255, 0),
    (147, 116, 116), (0, 0, 255), (124, 252, 0), (220, 220, 220), (255, 105, 180),
)  # fmt: skip


def resolve_classes(spec: str | Path | Iterable[str]) -> tuple[str, ...]:
    """Class names from a version (``'v1.0'``), a text file (one name per line), one name, or a sequence of names.

    A lone string is a version or an existing ``.txt`` file, else a comma-separated list of names, so that
    ``'ship'`` is one class and never four letters.

    Raises:
        DotaError: the list is empty, or a name is repeated or cannot be a class (`fdam_rotate.dota.names`).
    """
    if isinstance(spec, (str, Path)):
        text = str(spec)
        if text in DOTA_CLASSES:
            return DOTA_CLASSES[text]
        if text.endswith(".txt"):
            path = Path(text)
            if not path.is_file():
                raise DotaError(f"class file {path} does not exist; give a file with one class name per line")
            try:
                names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
            except UnicodeDecodeError as error:
                raise DotaError(f"class file {path}: not UTF-8 text ({error.reason}); a name per line") from None
        else:
            names = [part.strip() for part in text.split(",")]
        names = [name for name in names if name]
    elif isinstance(spec, Iterable):
        names = list(spec)
    else:
        names = [spec]
    if odd := [name for name in names if not isinstance(name, str)]:
        raise DotaError(
            f"classes {spec!r}: {odd[0]!r} is no name; give {', '.join(DOTA_CLASSES)}, a .txt file or names"
        )
    if not names:
        raise DotaError(f"no class in {spec!r}; give one of {', '.join(DOTA_CLASSES)}, a .txt file or names")
    names = [class_name(name) for name in names]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DotaError(f"class list: {', '.join(map(repr, repeated))} more than once")
    return tuple(names)


def class_colour(index: int) -> tuple[int, int, int]:
    """The RGB colour of class number ``index``; colours repeat past the eighteenth."""
    return PALETTE[index % len(PALETTE)]


def colour_of(name: str, classes: Sequence[str]) -> tuple[int, int, int]:
    """RGB colour of a class: MMRotate's for a class of DOTA, else by its place in ``classes``."""
    known = DOTA_CLASSES["v2.0"]
    return class_colour(known.index(name) if name in known else classes.index(name))
