r"""Quick reading and writing of regular tables of text: what Python's ``float`` and ``format`` do, in NumPy.

A table is ASCII or UTF-8 text whose lines hold the same number of fields.
Eight characters of every number are taken as one 64-bit word and turned into digits by arithmetic on the whole word
(after Mula, "SIMD-ized number parsing", and Lemire's eight-digit trick). The result is the nearest float64, the
same as Python's: an integer below 2**53 divided by a power of ten up to 10**22 is rounded once. Numbers of another
form (exponents, more than sixteen characters) go through ``float``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.errors import DotaError

__all__ = ["Table", "format_rows", "scan_table"]

_PAD = 16  # bytes before the text, so that a word may begin before the first number
_ZEROS = np.uint64(0x3030303030303030)
_POWERS = 10.0 ** np.arange(17)


def _u64(value: int) -> np.uint64:
    return np.uint64(value)


class Table:
    """A scanned table: where its fields begin and end.

    Attributes:
        rows: the number of lines.
        columns: the number of fields of each line.
        lines: (rows,) int64, 0-based line numbers within the text.
    """

    def __init__(
        self, padded: bytes, starts: NDArray[np.int64], ends: NDArray[np.int64], lines: NDArray[np.int64]
    ) -> None:
        self._padded = padded
        self._starts = starts
        self._ends = ends
        self.rows, self.columns = starts.shape
        self.lines = lines

    def column(self, index: int) -> list[bytes]:
        """The fields of one column."""
        padded = self._padded
        pairs = zip(self._starts[:, index].tolist(), self._ends[:, index].tolist(), strict=True)
        return [padded[start:end] for start, end in pairs]

    def numbers(self, first: int, last: int) -> NDArray[np.float64]:
        """The columns ``first`` to ``last`` (exclusive) as (rows, last - first) float64.

        Raises:
            ValueError: a field that ``float`` does not accept.
        """
        starts = self._starts[:, first:last].ravel()
        ends = self._ends[:, first:last].ravel()
        values = np.empty(len(starts))
        step = 16_384  # the arrays of one step stay in the second-level cache
        for begin in range(0, len(starts), step):
            part = slice(begin, begin + step)
            values[part] = _parse(self._padded, starts[part], ends[part])
        return values.reshape(self.rows, last - first)


def scan_table(data: bytes, columns: int) -> Table | None:
    r"""Find the fields of ``data``, which holds ``columns`` of them in every line; None if it does not.

    Blank lines, runs of white space and ``\r\n`` are accepted, at the cost of a second pass.
    """
    if sys.byteorder != "little":  # the words are read so
        return None
    table = _scan(data, columns)
    if table is not None:
        return table
    rows = [b" ".join(row.split()) for row in data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")]
    table = _scan(b"\n".join(filter(None, rows)), columns)
    if table is not None:
        table.lines = np.array([index for index, row in enumerate(rows) if row], np.int64)
    return table


def _scan(data: bytes, columns: int) -> Table | None:
    """Find the fields of a table with single spaces between them and no blank line."""
    if not data.endswith(b"\n"):
        data += b"\n"
    padded = b" " * _PAD + data
    text = np.frombuffer(padded, np.uint8)[_PAD:]
    ends = np.flatnonzero(text <= 32)
    if len(ends) % columns:
        return None
    starts = np.empty_like(ends)
    starts[0] = 0
    np.add(ends[:-1], 1, out=starts[1:])
    if (starts == ends).any():
        return None
    separators = text[ends].reshape(-1, columns)
    if (separators[:, -1] != 10).any() or (separators[:, :-1] != 32).any():
        return None
    rows = len(separators)
    return Table(padded, starts.reshape(rows, columns) + _PAD, ends.reshape(rows, columns) + _PAD, np.arange(rows))


def _parse(padded: bytes, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.float64]:
    """Numbers of the fields ``padded[starts:ends]``."""
    raw = np.frombuffer(padded, np.uint8)
    words: NDArray[np.uint64] = np.ndarray((len(padded) - 7,), np.uint64, padded, strides=(1,))
    negative = raw[starts] == 45  # '-'
    length = ends - starts - negative
    mantissa, decimals, good = _digits(words[ends - 8], np.minimum(length, 8))
    good &= length > 0
    for index in np.flatnonzero(length == 1):
        good[index] &= raw[ends[index] - 1] != 46  # a lone '.'
    values = mantissa.astype(np.float64) / _POWERS[decimals]
    long = np.flatnonzero(length > 8)
    if len(long):
        values[long], good[long] = _parse_long(words, ends[long], length[long])
    np.negative(values, out=values, where=negative)
    for index in np.flatnonzero(~good).tolist():
        values[index] = float(padded[starts[index] : ends[index]])
    return values


def _digits(
    word: NDArray[np.uint64], length: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.bool_]]:
    """Mantissa, number of decimals and validity of words whose last ``length`` characters are a number."""
    blank = ((8 - length) << 3).astype(np.uint64)
    # a shift by 64 is undefined; two shifts of at most 32 are not
    half = blank >> _u64(1)
    word = ((word >> half) >> half << half) << half
    word |= _ZEROS ^ ((_ZEROS >> half) >> half << half) << half  # '0' where the number does not reach
    word, decimals = _without_point(word)
    return _eight_digits(word), decimals, _all_digits(word)


def _without_point(word: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Take a decimal point out of each word, moving what stands before it up; and the number of decimals."""
    point = _point(word)
    has = point != 0
    below = (point >> _u64(7)) - _u64(1)
    above = ~((point << _u64(1)) - _u64(1))
    moved = ((word & below) << _u64(8)) | (word & above) | _u64(0x30)
    return np.where(has, moved, word), _decimals(point)


def _point(word: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The top bit of the byte that is a '.', 0 where there is none (of several, the first)."""
    x = word ^ _u64(0x2E2E2E2E2E2E2E2E)
    hit: NDArray[np.uint64] = (x - _u64(0x0101010101010101)) & ~x & _u64(0x8080808080808080)
    return hit & (~hit + _u64(1))


def _decimals(point: NDArray[np.uint64]) -> NDArray[np.int64]:
    """How many characters follow the byte that `_point` marks, 0 where it marks none."""
    # a product with one bit is a shift: it brings that byte of the constant to the top which holds the answer
    return (((point >> _u64(7)) * _u64(0x0706050403020100)) >> _u64(56)).astype(np.int64)


def _all_digits(word: NDArray[np.uint64]) -> NDArray[np.bool_]:
    high = _u64(0xF0F0F0F0F0F0F0F0)
    good: NDArray[np.bool_] = ((word & high) == _ZEROS) & (((word + _u64(0x0606060606060606)) & high) == _ZEROS)
    return good


def _eight_digits(word: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The number that eight digits make, the first one in the lowest byte."""
    word = word & _u64(0x0F0F0F0F0F0F0F0F)
    word = word * _u64(10) + (word >> _u64(8))
    pairs = _u64(0x000000FF000000FF)
    low = (word & pairs) * _u64(0x000F424000000064)
    high = ((word >> _u64(16)) & pairs) * _u64(0x0000271000000001)
    number: NDArray[np.uint64] = (low + high) >> _u64(32)
    return number


def _parse_long(
    words: NDArray[np.uint64], ends: NDArray[np.int64], length: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Numbers of nine to sixteen characters (without sign), and which of them are good."""
    last, first = words[ends - 8], words[ends - 16]
    blank = (np.clip(16 - length, 0, 7) << 3).astype(np.uint64)
    first = (first >> blank) << blank
    first |= _ZEROS ^ ((_ZEROS >> blank) << blank)
    in_last, in_first = _point(last) != 0, _point(first) != 0
    short_first, decimals_first = _without_point(first)
    short_last, decimals_last = _without_point(last)
    carried = (short_last & ~_u64(0xFF)) | (first >> _u64(56))
    moved = (first << _u64(8)) | _u64(0x30)
    first, last = np.where(in_last, moved, short_first), np.where(in_last, carried, last)
    decimals = np.where(in_last, decimals_last, np.where(in_first, decimals_first + 8, 0))
    # fifteen digits fit a float64, sixteen may not
    good = _all_digits(first) & _all_digits(last) & (length <= np.where(in_last | in_first, 16, 15))
    mantissa = _eight_digits(first) * _u64(100_000_000) + _eight_digits(last)
    return mantissa.astype(np.float64) / _POWERS[decimals], good


def format_rows(
    names: Sequence[str],
    name: NDArray[np.intp],
    scores: NDArray[np.float64],
    coordinates: NDArray[np.float64],
) -> bytes:
    """Lines of ``name score coordinate ...``, as UTF-8.

    A score is rounded to eight decimals and a coordinate to four; trailing zeros are dropped down to six decimals and
    to two.

    Args:
        names: texts without white space.
        name: (N,) index into ``names``.
        scores: (N,), finite.
        coordinates: (N, K), finite.

    Raises:
        DotaError: a number that is not finite or not below 1e8 in size.
    """
    if not ((np.abs(scores) < _LIMIT).all() and (np.abs(coordinates) < _LIMIT).all()):
        raise DotaError("a score or coordinate is not finite or not below 1e8; it cannot be written")
    encoded = np.array([text.encode("utf-8") for text in names] or [b""], np.bytes_)
    row = np.dtype(
        [("name", encoded.dtype), ("score", _SCORE), ("at", _NUMBER, (coordinates.shape[1],)), ("end", "u1")]
    )
    parts = []
    step = 4096  # the arrays of one step stay in the second-level cache
    for begin in range(0, len(scores), step):
        part = slice(begin, begin + step)
        out = np.zeros(len(scores[part]), row)
        out["name"] = encoded[name[part]]
        score, at = out["score"], out["at"]
        fraction = _write_number(score, scores[part], 100_000_000)
        score["tail"], score["fraction"] = _FULL[fraction // 10_000], _TAIL[fraction % 10_000]
        at["fraction"] = _TAIL[_write_number(at, coordinates[part], 10_000)]
        out["end"] = 10
        text = out.view(np.uint8)
        parts.append(text[text != 0].tobytes())
    return b"".join(parts)


def _write_number(out: NDArray[np.void], values: NDArray[np.float64], unit: int) -> NDArray[np.int64]:
    """Fill in all but the decimals, which are returned as a whole number of 1 / ``unit``."""
    scaled = np.rint(np.abs(values) * unit).astype(np.int64)
    whole = scaled // unit
    fraction: NDArray[np.int64] = scaled - whole * unit
    high = whole // 10_000
    low = whole - high * 10_000
    out["space"], out["point"] = 32, 46
    out["sign"] = np.where((values < 0) & (scaled > 0), 45, 0)
    out["high"] = _LEAD[high]
    out["low"] = np.where(high > 0, _FULL[low], _UNITS[low])
    return fraction


def _digit_table() -> NDArray[np.uint32]:
    """The text of 0000 to 9999, four bytes each."""
    number = np.arange(10_000)[:, None]
    return (number // (1000, 100, 10, 1) % 10 + 48).astype(np.uint8).view(np.uint32)[:, 0]


def _blanked(keep: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """`_FULL` with the characters blanked that are not kept."""
    return np.where(keep, _FULL[:, None].view(np.uint8), 0).astype(np.uint8).view(np.uint32)[:, 0]


#: Sizes from here on have too many digits for the layout.
_LIMIT = 1e8 - 1
_HEAD = [("space", "u1"), ("sign", "u1"), ("high", "u4"), ("low", "u4"), ("point", "u1")]
_NUMBER = np.dtype([*_HEAD, ("fraction", "u4")])
_SCORE = np.dtype([*_HEAD, ("tail", "u4"), ("fraction", "u4")])
_FULL = _digit_table()
_NONZERO = _FULL[:, None].view(np.uint8) != 48
_LEAD = _blanked(np.logical_or.accumulate(_NONZERO, axis=1))  # leading zeros blank
_UNITS = _blanked(np.logical_or.accumulate(_NONZERO | [False, False, False, True], axis=1))  # all but the last
_KEEP_TWO = np.array([True, True, False, False])
_TAIL = _blanked(_KEEP_TWO | np.logical_or.accumulate(_NONZERO[:, ::-1], axis=1)[:, ::-1])  # the last two, if zeros
