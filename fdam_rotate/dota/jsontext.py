"""JSON that others wrote: one error for whatever is not, and for records that are not as expected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fdam_rotate.dota.errors import DotaError, LabelFormatError

__all__ = ["RECORD_ERRORS", "read_json", "reason_of"]

#: What reading a record of unexpected contents raises: a key that is missing, a text for a number, a number too large.
RECORD_ERRORS = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError)


def read_json(path: Path, error_type: type[DotaError] = LabelFormatError) -> Any:
    """The contents of a file, with or without a byte-order mark.

    Raises:
        DotaError: of ``error_type``: it is not JSON, or nested too deeply.
        FileNotFoundError: there is no such file.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:  # of text, of bytes that are not UTF-8, of numbers of 4,300 digits
        raise error_type(f"{path}: not JSON: {error}") from None


def reason_of(error: Exception) -> str:
    """What is wrong with a record, from one of ``RECORD_ERRORS``."""
    return f"no {error}" if isinstance(error, KeyError) else str(error)
