"""What a command may write and replace: one rule, and one meaning of ``--overwrite``, for all of them.

* An output that is, or holds, an input is refused before anything else.
* Without ``--overwrite`` an output file must not exist, and an output folder must be new or empty.
* With it, a command replaces what it wrote itself in an earlier run, and nothing else. It knows these files by their
  names where no other file has such a name (``Task1_<class>.txt``), and otherwise by its record of that run, a small
  hidden JSON file in the folder. All other files and folders stay; one that stands where a file is to be written is an
  error, and then nothing has been touched.
* Nothing is written or removed through a link inside the output folder that leads out of it.
"""

from __future__ import annotations

import fnmatch
import json
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from fdam_rotate.dota.errors import OutputExistsError
from fdam_rotate.dota.files import write_text
from fdam_rotate.dota.jsontext import read_json
from fdam_rotate.dota.names import plain_form

__all__ = [
    "check_alike",
    "check_folder",
    "check_inputs",
    "check_links",
    "check_names",
    "claim_file",
    "claim_folder",
    "earlier_files",
    "record_name",
    "recorded",
    "remove_files",
]


def check_inputs(output: str | Path, inputs: Iterable[str | Path | None]) -> None:
    """Refuse an output that is one of the inputs, or a folder that holds one; links are followed.

    Raises:
        OutputExistsError: it is, or does.
    """
    place = Path(output).resolve()
    for given in inputs:
        if given is None or not Path(given).exists():  # who reads it says better that it is missing
            continue
        source = Path(given).resolve()
        if source == place:
            raise OutputExistsError(f"{given} would be read and written; give another output than {output}")
        if place in source.parents:
            raise OutputExistsError(f"the output {output} holds the input {given}; give another folder for the output")


def claim_file(path: str | Path, *, overwrite: bool = False, inputs: Iterable[str | Path | None] = ()) -> Path:
    """``path``, if this file may be written; nothing is written yet.

    Raises:
        OutputExistsError: it is a folder, an input or a file in one, or it exists and ``overwrite`` is False.
    """
    path = Path(path)
    folders = [Path(given) for given in inputs if given is not None]
    check_inputs(path, folders)
    if path.is_dir():
        raise OutputExistsError(f"{path} is a folder; give a file")
    if os.path.lexists(path):
        within = next((folder for folder in folders if folder.resolve() in path.resolve().parents), None)
        if within is not None:
            raise OutputExistsError(f"{path} is there already, in the input {within}; give another name")
    if os.path.lexists(path) and not overwrite:
        raise OutputExistsError(f"{path} exists; give another name, or --overwrite to replace it")
    return path


def check_folder(path: str | Path, *, overwrite: bool = False, inputs: Iterable[str | Path | None] = ()) -> Path:
    """``path``, if this may be an output folder: what can be known before the names of its files are.

    Raises:
        OutputExistsError: it is or holds an input, is a file, or holds anything and ``overwrite`` is False.
    """
    path = Path(path)
    check_inputs(path, inputs)
    if os.path.lexists(path) and not path.is_dir():
        raise OutputExistsError(f"{path} is a file; give a folder for the output")
    if path.is_dir() and not overwrite and any(path.iterdir()):
        raise OutputExistsError(f"{path} exists and is not empty; give another folder, or --overwrite")
    return path


def claim_folder(
    path: str | Path,
    names: Iterable[str],
    *,
    own: Sequence[str] = (),
    record: str | None = None,
    overwrite: bool = False,
    inputs: Iterable[str | Path | None] = (),
) -> Path:
    """Make the folder ready for the files ``names``: files of an earlier run are removed, others are left alone.

    Args:
        path: the output folder; it is made.
        names: the files that are going to be written, relative to it, with ``/`` between folders.
        own: patterns of names that only this command writes, such as ``Task1_*.txt``.
        record: the command's name, where its files can have any name: the folder then holds the record of its run.
        overwrite: what was written earlier may be replaced.
        inputs: files and folders that are read.

    Raises:
        OutputExistsError: as `check_folder`; or a file that is to be written would replace one that this command did
            not write, or would be written through a link that leads out of the folder.
    """
    folder = check_folder(path, overwrite=overwrite, inputs=inputs)
    names = sorted(set(names))
    earlier = earlier_files(folder, own, record)
    check_names(folder, names, earlier)
    remove_files(folder, earlier)
    folder.mkdir(parents=True, exist_ok=True)
    if record is not None:
        _write_record(folder, record, names)
    return folder


@contextmanager
def recorded(folder: str | Path, record: str) -> Iterator[None]:
    """Add the files that appear in ``folder`` during the block to the record, whether the block ends well or not."""
    folder = Path(folder)
    before = _files_in(folder)
    try:
        yield
    finally:
        known = earlier_files(folder, record=record)
        _write_record(folder, record, sorted(known | (_files_in(folder) - before)))


def check_names(folder: Path, names: Iterable[str], earlier: Collection[str]) -> None:
    """Check that each of ``names`` can be written in ``folder``, where ``earlier`` are the files that may be replaced.

    Raises:
        OutputExistsError: a file or folder of somebody else is in the way, or a link that leads out of the folder.
    """
    names = list(names)
    check_alike(folder, names)
    check_links(folder, sorted({PurePosixPath(name).parent.as_posix() for name in names}))
    for name in names:
        target = folder / name
        if os.path.lexists(target) and (name not in earlier or (target.is_dir() and not target.is_symlink())):
            raise OutputExistsError(f"{target} was not written by this command; give another folder, or move it away")
        for parent in _folders_of(folder, name):
            if os.path.lexists(parent) and not parent.is_dir():
                raise OutputExistsError(f"{parent} is a file; give another folder, or move it away")


def check_alike(folder: Path, names: Iterable[str]) -> None:
    """Check that no two of these files would be one on the disc of ``folder``, which may ignore capitals.

    Raises:
        OutputExistsError: two would be; the message names them.
    """
    seen: dict[str, str] = {}
    for name in names:
        first = seen.setdefault(plain_form(name), name)
        if first != name and _is_one_file(folder, first, name):
            raise OutputExistsError(
                f"{first} and {name} would be one file in {folder}, whose disc takes capitals and accents for alike; "
                "rename one, or give a folder on another disc"
            )


def check_links(folder: Path, inner: Iterable[str]) -> None:
    """Check that these folders within ``folder`` are no links that lead out of it.

    Raises:
        OutputExistsError: one is.
    """
    for name in inner:
        if not _inside(folder, folder / name, {}):
            raise OutputExistsError(f"{folder / name} is a link that leads out of {folder}; give another folder")


def record_name(command: str) -> str:
    """The file in an output folder in which ``command`` keeps the names of the files that it wrote there."""
    return f".fdam_rotate-{command}.json"


def remove_files(folder: Path, names: Iterable[str]) -> None:
    """Remove these files of ``folder``, and the folders that are empty then; never through a link that leads out."""
    known: dict[Path, bool] = {}
    emptied: set[Path] = set()
    for name in sorted(names):
        target = folder / name
        if _inside(folder, target.parent, known) and not (target.is_dir() and not target.is_symlink()):
            target.unlink(missing_ok=True)
            emptied.update(_folders_of(folder, name))
    for one in sorted(emptied, key=lambda path: -len(path.parts)):
        if not one.is_symlink():
            with suppress(OSError):  # it holds something else
                one.rmdir()


def earlier_files(folder: Path, own: Sequence[str] = (), record: str | None = None) -> set[str]:
    """The files in ``folder`` that an earlier run of a command wrote, by ``own`` patterns and by its ``record``.

    Raises:
        OutputExistsError: the record cannot be read.
    """
    found: set[str] = set()
    for pattern in own:
        where, _, last = pattern.rpartition("/")
        for entry in os.listdir(folder / where) if (folder / where).is_dir() else ():
            path = folder / where / entry
            if fnmatch.fnmatchcase(entry, last) and path.is_file() and not path.is_symlink():
                found.add(f"{where}/{entry}" if where else entry)
    if record is None or not (folder / record_name(record)).is_file():
        return found
    path = folder / record_name(record)
    try:
        names = read_json(path)["files"]
        good = all(_is_inner(name) for name in names)
    except (ValueError, KeyError, TypeError):
        good = False
    if not good:
        raise OutputExistsError(f"{path} is damaged, so that it is not known what may be replaced; give another folder")
    return found.union(names)


def _write_record(folder: Path, record: str, names: Sequence[str]) -> None:
    content = {"written by": f"fdam-rotate {record}", "files": list(names)}
    write_text(folder / record_name(record), json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _files_in(folder: Path) -> set[str]:
    """All files and links below ``folder``; folders behind links are not entered."""
    found: set[str] = set()
    for where, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(where, name))]
        found.update(Path(where, name).relative_to(folder).as_posix() for name in (*files, *links))
    return found


def _is_inner(name: str) -> bool:
    """Whether a relative name stays inside its folder."""
    parts = PurePosixPath(name).parts
    return bool(parts) and ".." not in parts and not PurePosixPath(name).is_absolute() and "\0" not in name


def _folders_of(folder: Path, name: str) -> list[Path]:
    """The folders between ``folder`` and the file ``name`` in it."""
    parents = PurePosixPath(name).parents
    return [folder / parent for parent in parents if parent != PurePosixPath(".")]


def _is_one_file(folder: Path, first: str, second: str) -> bool:
    """Whether the disc of ``folder``, which need not exist yet, takes these two names for one; tried out there."""
    place = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.is_dir())
    with tempfile.TemporaryDirectory(dir=place, prefix=".tmp-") as trial:
        (Path(trial) / first.replace("/", "_")).touch()
        return (Path(trial) / second.replace("/", "_")).exists()


def _inside(folder: Path, parent: Path, known: dict[Path, bool]) -> bool:
    """Whether ``parent`` lies in ``folder`` once links are followed; ``known`` holds earlier answers."""
    if parent not in known:
        known[parent] = parent.resolve().is_relative_to(folder.resolve())
    return known[parent]
