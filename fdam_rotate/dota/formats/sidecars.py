"""Label files that lie one per image: which there are, and to which image each belongs.

Beside the images, or in a folder of their own beside ``images/``; a data set of several parts has a folder for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fdam_rotate.dota.errors import DotaError, LabelFormatError
from fdam_rotate.dota.formats.interchange import DataPart, Item, Reading
from fdam_rotate.dota.layout import image_files, label_files
from fdam_rotate.dota.problems import Problem
from fdam_rotate.dota.progress import progress_over

__all__ = ["ImageFinder", "Sidecar", "find_sidecars", "pair", "read_sidecars"]


@dataclass(frozen=True)
class Sidecar:
    """One image and its label file; either may be missing. ``image_id`` is the image file's name without extension."""

    image_id: str
    image: Path | None
    label: Path | None


class ImageFinder:
    """The images of some folders by name: the file that labels name, or one with the same stem.

    Args:
        folders: looked at in this order; those that do not exist are passed over.
        problems: collects images of a folder that have the id of another one there; they are left out.

    Attributes:
        folders: those that exist.
        by_stem: id -> image.
    """

    def __init__(self, folders: Sequence[Path], problems: list[Problem]) -> None:
        self.folders = [folder for folder in folders if folder.is_dir()]
        self.by_stem: dict[str, Path] = {}
        for folder in self.folders:
            here: dict[str, Path] = {}
            for path in image_files(folder):
                if path.stem in here:
                    text = f"has the id of {here[path.stem]}; it is left out"
                    problems.append(Problem("clash", str(path), 0, text))
                here.setdefault(path.stem, path)
            self.by_stem = {**here, **self.by_stem}

    def find(self, name: str) -> Path | None:
        """The image that ``name``, a relative path or a mere file name, means; None if there is none."""
        for folder in self.folders:
            for form in (name, name.rsplit("/", 1)[-1]):
                if (folder / form).is_file():
                    return folder / form
        return self.by_stem.get(Path(name).stem)


def find_sidecars(source: Path, suffix: str, reading: Reading) -> list[tuple[str, list[Sidecar]]]:
    """Parts of a data set, each with its images, sorted by id: those with a label file, and those without.

    Args:
        source: a label file, a folder of them, or a folder of such folders (train/, val/).
        suffix: of the label files, such as ``.json``.
        reading: names the folder of images, if they are neither beside the labels nor in ``images/``.

    Raises:
        FileNotFoundError: there is no such file or folder.
        DotaError: no label file at all.
    """
    if source.is_file():
        found = ImageFinder([reading.img_dir or source.parent], []).by_stem.get(source.stem)
        return [("data", [Sidecar(source.stem, found, source)])]
    if not source.is_dir():
        raise FileNotFoundError(f"{source} does not exist; give a folder of {suffix} label files")
    roots = [source] if label_files(source, suffix) or (source / "images").is_dir() else _subfolders(source)
    parts = []
    for root in roots:
        folder = next((one for one in [root, *_subfolders(root)] if label_files(one, suffix)), None)
        if folder is not None:
            name = "data" if root == source else root.name
            images = [root / "images", folder, root]
            if reading.img_dir is not None:
                images = [reading.img_dir / name, reading.img_dir]
            parts.append((name, pair(label_files(folder, suffix), ImageFinder(images, reading.problems))))
    if not parts:
        raise DotaError(f"{source} holds no {suffix} label file, neither in it nor in a folder within it")
    return parts


def read_sidecars(
    source: Path, suffix: str, reading: Reading, read_one: Callable[[Sidecar, Reading], Item | None]
) -> list[DataPart]:
    """The parts of a data set of one label file per image; a file that ``read_one`` refuses becomes a problem.

    Args:
        source: see `find_sidecars`.
        suffix: of the label files.
        reading: see `find_sidecars`; collects problems.
        read_one: the item of one image, None where it is left out; raises LabelFormatError.

    Raises:
        FileNotFoundError: there is no such file or folder.
        DotaError: no label file at all.
    """
    parts = []
    for name, sidecars in find_sidecars(source, suffix, reading):
        items = []
        for one in progress_over(sidecars, f"reading {name}", "image", shown=reading.progress):
            try:
                item = read_one(one, reading)
            except LabelFormatError as error:
                text = str(error).removeprefix(f"{one.label}: ")
                reading.problems.append(Problem("malformed", str(one.label), 0, text))
                continue
            if item is not None:
                items.append(item)
        parts.append(DataPart(name, tuple(items)))
    return parts


def pair(labels: Sequence[Path], images: ImageFinder) -> list[Sidecar]:
    """Label files and images of the same id, sorted by it."""
    by_stem = {label.stem: label for label in labels}
    ids = sorted(by_stem.keys() | images.by_stem.keys())
    return [Sidecar(one, images.by_stem.get(one), by_stem.get(one)) for one in ids]


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
