r"""Names: what an image id and a class may be, how both are written where text has no place for them, the nearest one.

An image id is the file name of an image without its extension. It may hold whatever a file name holds, blanks and all
scripts included, but for this (`id_problem`):

* a slash or backslash, a control character, a line separator, bytes that are not UTF-8, a code point that is no
  character: no folder, line of text or XML file can hold them all;
* a blank at its beginning or end, which lists of images lose, or a full stop at its beginning: such files are hidden;
* more than 200 bytes: a patch's name and extension must fit behind it in the 255 of a file name;
* ``classes`` and ``predefined_classes``, whose label file would be one of the lists of that name.

A class (`class_name`) is text without white space, since label files part their fields there; what else an id must not
hold, a class must not either, except that slashes are allowed. Equal characters count as equal however they are put
together (Unicode's form NFC).

In the lines of a detection file, ``Task1_<class>.txt``, a blank of an id is written as ``%`` and two hexadecimal digits
for each of its bytes in UTF-8: ``scene (0)`` as ``scene%20(0)``. In the file's name, so are the characters of a class
that not every system has in file names (``/ \ : * ? " < > |``): ``car/van`` as ``Task1_car%2Fvan.txt``. A ``%`` before
two such digits is written ``%25``; all other names stand as they are, DOTA's among them. Reading undoes what writing
does and nothing else: text that writing cannot have given stands for itself.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import lru_cache
from urllib.parse import quote, unquote

from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.words import counted

__all__ = [
    "MAX_ID_BYTES",
    "MAX_PATCH_ID_BYTES",
    "check_image_id",
    "class_name",
    "did_you_mean",
    "escape_class",
    "escape_id",
    "escape_note",
    "id_problem",
    "nearest_name",
    "plain_form",
    "unescape_class",
    "unescape_id",
]

#: The longest image id, and the longest name of a patch, in bytes of UTF-8.
MAX_ID_BYTES, MAX_PATCH_ID_BYTES = 200, 255

_MAX_CLASS_BYTES = 200
_CLASS_LISTS = ("classes", "predefined_classes")

#: What a class may hold and a file name may not, on one system or another.
_NOT_IN_FILE_NAMES = frozenset('/\\:*?"<>|')
_BYTE_ORDER_MARK = "\ufeff"
_ESCAPE = re.compile(r"%(?=[0-9A-Fa-f]{2})")


def id_problem(image_id: str, most: int = MAX_ID_BYTES) -> str | None:
    """What is wrong with an image id, in words that follow it; None if nothing is.

    Args:
        image_id: the id.
        most: bytes of UTF-8; `MAX_PATCH_ID_BYTES` where it may be the name of a patch.
    """
    problem = _text_problem(image_id, most)
    if problem is not None:
        return problem
    if "/" in image_id or "\\" in image_id:
        return "holds a slash; an id is a file name without folder"
    if image_id != image_id.strip():
        return "begins or ends with a blank, which lists of images lose"
    if image_id.startswith("."):
        return "begins with a full stop: such files are hidden"
    if image_id in _CLASS_LISTS:
        return "is the name of a list of classes: its label file would be taken for one"
    return None


def check_image_id(image_id: str) -> str:
    """The id itself.

    Raises:
        DotaError: it cannot be an image id.
    """
    problem = id_problem(image_id)
    if problem is not None:
        raise DotaError(f"image id {image_id!r} {problem}; rename the file")
    return image_id


@lru_cache(maxsize=4096)
def class_name(text: str) -> str:
    """A class name as it is compared and written: ``text`` with characters put together the usual way (NFC).

    Raises:
        DotaError: it cannot be a class name.
    """
    name = unicodedata.normalize("NFC", text)
    problem = _text_problem(name, _MAX_CLASS_BYTES)
    if problem is None and any(map(str.isspace, name)):
        problem = "holds white space, at which label files part their fields"
    if problem is None and _BYTE_ORDER_MARK in name:
        problem = "holds a byte-order mark"
    if problem is not None:
        raise DotaError(f"class {text!r} {problem}; rename it")
    return name


def escape_id(image_id: str) -> str:
    """An image id as it stands in a line whose fields are parted by white space."""
    return _escaped(image_id, _needs_escape_in_line)


def unescape_id(text: str) -> str:
    """The image id that stands as ``text`` in such a line."""
    return _unescaped(text, escape_id)


def escape_note(image_ids: Iterable[str]) -> str | None:
    """A sentence on those that do not stand in detection files as they are; None where all do."""
    escaped = sorted(one for one in set(image_ids) if escape_id(one) != one)
    if not escaped:
        return None
    example = f"{escaped[0]!r} as {escape_id(escaped[0])}"
    which = counted(len(escaped), "image id", "is|are")
    return f"{which} written with escapes ({example}); DOTA's server does not know such ids"


def escape_class(name: str) -> str:
    """A class name as it stands in a file name."""
    return _escaped(name, _NOT_IN_FILE_NAMES.__contains__)


def unescape_class(text: str) -> str:
    """The class name that stands as ``text`` in a file name."""
    return _unescaped(text, escape_class)


def plain_form(name: str) -> str:
    """What discs that do not tell capitals and compositions of characters apart (macOS, Windows) know a name by."""
    return unicodedata.normalize("NFC", name).casefold()


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """The known name whose spelling is nearest to ``name``, case, ``_``, spaces and ``-`` apart, or None."""
    plain = {_plain(one): one for one in known}
    found = difflib.get_close_matches(_plain(name), list(plain), n=1, cutoff=0.6)
    return plain[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'ship'?`` for the end of a sentence about an unknown name; empty if none is near."""
    near = nearest_name(name, known)
    return f"; did you mean {near!r}?" if near else ""


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(" ", "-")


def _text_problem(text: str, most: int) -> str | None:
    """What neither an id nor a class may be."""
    if not text:
        return "is empty"
    if not (text.isascii() and text.isprintable()):
        for character in text:
            kind = unicodedata.category(character)
            if kind == "Cs":
                return "is not UTF-8 text"
            code = ord(character)
            if kind in ("Cc", "Zl", "Zp") or code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF:
                return f"holds the character U+{code:04X}, which a line of text cannot hold"
    size = len(text.encode("utf-8"))
    return f"has {size} bytes; at most {most} leave room for what is added to file names" if size > most else None


def _needs_escape_in_line(character: str) -> bool:
    return character.isspace() or character == _BYTE_ORDER_MARK


def _escaped(name: str, needs_escape: Callable[[str], bool]) -> str:
    text = _ESCAPE.sub("%25", name) if "%" in name else name
    if not any(map(needs_escape, text)):
        return text
    return "".join(quote(one, safe="") if needs_escape(one) else one for one in text)


def _unescaped(text: str, escape: Callable[[str], str]) -> str:
    if "%" not in text:
        return text
    try:
        name = unquote(text, errors="strict")
    except UnicodeDecodeError:
        return text
    return name if escape(name) == text else text
