"""Source images and their label files: which there are, and what is amiss with the folders.

``.png .jpg .jpeg .tif .tiff .jp2 .j2k .bmp`` are taken, in any case. The id of an image is its file name without
the extension; `fdam_rotate.dota.names` says what it may hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.names import check_image_id, id_problem, plain_form
from fdam_rotate.dota.problems import Problem
from fdam_rotate.dota.words import counted

__all__ = [
    "IMAGE_SUFFIXES",
    "LABEL_FOLDERS",
    "Part",
    "SourceImage",
    "find_parts",
    "image_files",
    "image_problem",
    "label_files",
    "label_folder",
    "list_sources",
    "passed_over",
    "read_image_list",
]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".jp2", ".j2k", ".bmp")

#: Folders of labels beside ``images/``: of whole images, as DOTA has them, and of patches.
LABEL_FOLDERS = ("labelTxt", "annfiles")

#: Files that say more of an image, or that systems leave behind: these are not reported.
_BESIDE_IMAGES = (".tfw", ".tifw", ".tiffw", ".pgw", ".pngw", ".jgw", ".jpgw", ".bpw", ".j2w", ".wld", ".prj", ".ovr")
_LEFT_BEHIND = ("thumbs.db", "desktop.ini")

#: Text files that labelling tools leave beside label files.
_CLASS_LISTS = ("classes.txt", "predefined_classes.txt")


def image_problem(path: Path, error: Exception, shown: str | None = None) -> Problem:
    """The problem that ``error`` kept the image ``path`` from being read; ``shown`` is how the user named it."""
    text = str(error).removeprefix(f"{path}: ")
    if isinstance(error, OSError):
        where = "" if error.filename in (None, str(path)) else f"{error.filename} "
        text = f"{where}cannot be read: {error.strerror or error}"
    elif not isinstance(error, DotaError):
        text = f"{type(error).__name__}: {error}"
    return Problem("image", shown or str(path), 0, text)


@dataclass(frozen=True)
class SourceImage:
    """One image to split; ``label`` is its label file, None where there is none."""

    image_id: str
    path: Path
    label: Path | None


def list_sources(
    img_dirs: Sequence[Path], ann_dirs: Sequence[Path | None], problems: list[Problem]
) -> list[SourceImage]:
    """The images of ``img_dirs`` with their label files in ``ann_dirs``, sorted by id.

    Into ``problems`` go images without a label file (``no-label``; they are split as images without objects), label
    files without an image (``no-image``), images whose id is taken (``clash``) or can be none (``id``), which are left
    out, and ids that differ only in capitals or in how characters are put together (``alike``), which are kept.

    Raises:
        FileNotFoundError: a folder does not exist.
        DotaError: there is no image at all.
    """
    for folder in [*img_dirs, *(a for a in ann_dirs if a is not None)]:
        if not folder.is_dir():
            raise FileNotFoundError(f"folder {folder} does not exist")
    sources: dict[str, SourceImage] = {}
    expected: dict[Path, set[str]] = {ann_dir: set() for ann_dir in ann_dirs if ann_dir is not None}
    alike: dict[Path, dict[str, str]] = {}  # file names of a folder of labels by their plain form, listed when needed
    for img_dir, ann_dir in zip(img_dirs, ann_dirs, strict=True):
        for path in image_files(img_dir):
            image_id = path.stem
            if ann_dir is not None:
                expected[ann_dir].add(image_id)
            if image_id in sources:
                first = sources[image_id].path
                problems.append(Problem("clash", _shown(path), 0, f"has the id of {first}; it is left out"))
                continue
            problem = id_problem(image_id)
            if problem is not None:
                text = f"its image id {problem}; rename the file; it is left out"
                problems.append(Problem("id", _shown(path), 0, text))
                continue
            label = None if ann_dir is None else ann_dir / f"{image_id}.txt"
            if ann_dir is not None and label is not None and not label.is_file():
                if ann_dir not in alike:
                    alike[ann_dir] = {plain_form(one.name): one.name for one in sorted(ann_dir.iterdir(), reverse=True)}
                near = alike[ann_dir].get(plain_form(label.name))
                hint = f"; {near} is there: write both names alike" if near else ""
                problems.append(Problem("no-label", str(path), 0, f"there is no label file {label}{hint}"))
                label = None
            sources[image_id] = SourceImage(image_id, path, label)
    _report_alike(sources, problems)
    for ann_dir, ids in expected.items():
        for path in label_files(ann_dir):
            if path.stem not in ids:
                problems.append(Problem("no-image", _shown(path), 0, "there is no image for this label file"))
    if not sources:
        folders = ", ".join(map(str, img_dirs))
        raise DotaError(f"no image in {folders}; expected files with {' '.join(IMAGE_SUFFIXES)}")
    return [sources[image_id] for image_id in sorted(sources)]


def _report_alike(sources: Mapping[str, SourceImage], problems: list[Problem]) -> None:
    """Report images whose ids are the same to macOS and Windows."""
    first: dict[str, str] = {}
    for image_id in sorted(sources):
        other = first.setdefault(plain_form(image_id), image_id)
        if other != image_id:
            text = f"its id differs from that of {sources[other].path} in capitals or accents only"
            why = "on discs of macOS and Windows what is written for them would be one file"
            problems.append(Problem("alike", str(sources[image_id].path), 0, f"{text}; {why}", severity="warning"))


def image_files(folder: Path) -> list[Path]:
    """The image files of a folder, sorted; not hidden ones (``._a.png``, as macOS leaves them)."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and not path.is_dir()
    )


def passed_over(folder: Path) -> Problem | None:
    """What a folder of images holds that is not read: folders of images, and files of other kinds; None: nothing."""
    folders: list[str] = []
    kinds: Counter[str] = Counter()
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        name = path.name.lower()
        if name.startswith(".") or name in _LEFT_BEHIND or name.endswith((*_BESIDE_IMAGES, ".aux.xml", ".msk")):
            continue
        if path.is_dir():
            if any(one.suffix.lower() in IMAGE_SUFFIXES for one in path.rglob("*")):
                folders.append(path.name)
        elif path.suffix.lower() not in IMAGE_SUFFIXES:
            kinds[path.suffix.lower() or "without extension"] += 1
    some = ", ".join([*folders[:1], *(["..."] if len(folders) > 1 else [])])
    found = [f"{counted(len(folders), 'folder')} with images ({some})"] if folders else []
    if kinds:
        most = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5))
        found.append(f"{counted(kinds.total(), 'file', 'of another kind|of other kinds')} ({most})")
    if not found:
        return None
    text = f"not read: {' and '.join(found)}; images lie in the folder itself and end in {' '.join(IMAGE_SUFFIXES)}"
    return Problem("unread", _shown(folder), 0, text, severity="warning")


def label_files(folder: Path, suffix: str = ".txt") -> list[Path]:
    """The label files of a folder, sorted; not class lists, nor hidden files (``._a.txt``, as macOS leaves them)."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() == suffix and not path.name.startswith(".") and path.name.lower() not in _CLASS_LISTS
    )


def _shown(path: Path) -> str:
    """The path as one line of text that can be written: bytes that are not UTF-8 and line ends escaped."""
    text = str(path).encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


@dataclass(frozen=True)
class Part:
    """One set of images with its labels: ``annotations`` is ``labelTxt`` or ``annfiles``, None for a test set."""

    name: str
    folder: Path
    annotations: Path | None


def find_parts(folders: Sequence[str | Path]) -> list[Part]:
    """The parts of the given folders, in their order, subfolders sorted.

    Raises:
        FileNotFoundError: a folder does not exist.
        DotaError: a folder holds neither ``images/`` nor a subfolder that does.
    """
    parts: list[Part] = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise FileNotFoundError(f"folder {folder} does not exist")
        roots = [folder] if (folder / "images").is_dir() else []
        roots = roots or sorted(sub for sub in folder.iterdir() if (sub / "images").is_dir())
        if not roots:
            inside = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
            raise DotaError(
                f"{folder} is no data set: expected images/ beside labelTxt/ or annfiles/, or subfolders (train/) with "
                f"them; it holds {inside}"
            )
        for root in roots:
            parts.append(Part(root.name if len(folders) == 1 else str(root), root, label_folder(root)))
    return parts


def label_folder(folder: Path) -> Path | None:
    """The folder of labels in ``folder``, if it has one."""
    return next((folder / name for name in LABEL_FOLDERS if (folder / name).is_dir()), None)


def read_image_list(path: str | Path) -> tuple[str, ...]:
    """The image ids of a list, sorted, each once; blank lines are skipped, and an image's file extension is dropped.

    Args:
        path: text with one id per line; or the ``manifest.json`` of a split or its folder: the images that were split.

    Raises:
        DotaError: the list is empty or not UTF-8, or an id cannot be a file name, or the manifest is bad.
        FileNotFoundError: there is no such file.
    """
    path = Path(path)
    if path.is_dir() or path.suffix == ".json":
        from fdam_rotate.dota.manifest import read_manifest

        return tuple(sorted(image["id"] for image in read_manifest(path).images))
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DotaError(f"{path}: not UTF-8 text ({error.reason}); give one image id per line") from error
    ids = set()
    for number, line in enumerate(lines, start=1):
        name = line.strip()
        if name:
            try:
                ids.add(check_image_id(name[: name.rindex(".")] if name.lower().endswith(IMAGE_SUFFIXES) else name))
            except DotaError as error:
                raise DotaError(f"{path}:{number}: {error}") from error
    if not ids:
        raise DotaError(f"{path} names no image; give one image id per line")
    return tuple(sorted(ids))
