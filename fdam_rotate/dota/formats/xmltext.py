"""XML as labelling tools write it, read safely: no document type, so no entity that expands or reaches out."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from fdam_rotate.dota.errors import LabelFormatError

__all__ = ["number_of", "read_xml", "text_of"]


class _NoDoctype(ElementTree.TreeBuilder):
    """The parser calls ``doctype`` before the first entity can be used."""

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        raise LabelFormatError("it declares a document type (DOCTYPE), which label files do not need; refused")


def read_xml(path: Path) -> ElementTree.Element:
    """The root element of a file.

    Raises:
        LabelFormatError: it is not XML, or declares a document type.
        FileNotFoundError: there is no such file.
    """
    parser = ElementTree.XMLParser(target=_NoDoctype())
    try:
        return ElementTree.fromstring(path.read_bytes(), parser=parser)
    except ElementTree.ParseError as error:
        raise LabelFormatError(f"{path}: not XML: {error}") from None
    except LabelFormatError as error:
        raise LabelFormatError(f"{path}: {error}") from None
    except (LookupError, ValueError) as error:  # the parser knows UTF-8, UTF-16 and encodings of one byte only
        raise LabelFormatError(f"{path}: its encoding cannot be read: {error}; save it as UTF-8") from None


def text_of(element: ElementTree.Element, name: str) -> str:
    """The text within the child ``name``, without white space around it; empty where there is no such child."""
    return (element.findtext(name) or "").strip()


def number_of(element: ElementTree.Element, name: str) -> float:
    """The number within the child ``name``.

    Raises:
        ValueError: there is none.
    """
    text = text_of(element, name)
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"<{name}> holds no number: {text!r}") from None
