"""What a check finds: rows, each written as soon as it is known, so that a part that is stopped loses none."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["STATES", "Row", "Sheet", "read_rows"]

#: right and wrong: compared with a limit; measured: a number without one; failed: an error; skipped: see the note.
STATES = ("right", "wrong", "measured", "failed", "skipped")


@dataclass(frozen=True)
class Row:
    """One line of the report.

    Attributes:
        part: of the check.
        what: was looked at.
        state: one of `STATES`.
        value: number or name that came out; None where there is none.
        unit: of the value and of the limit; empty for a share or a ratio.
        limit: the value may not be above it; None where nothing is asked for.
        note: why it was skipped, how it failed, or what the number means.
    """

    part: str
    what: str
    state: str
    value: float | str | None = None
    unit: str = ""
    limit: float | None = None
    note: str = ""

    @property
    def bad(self) -> bool:
        """Whether it makes the whole check fail."""
        return self.state in ("wrong", "failed")


class Sheet:
    """Takes the rows of one part.

    Args:
        part: its name.
        file: rows are appended to it, one JSON object a line.
        deadline: when the part must be done, by ``clock``.
        clock: seconds.
    """

    def __init__(
        self, part: str, file: Path, deadline: float = math.inf, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._part, self._file, self._deadline, self._clock = part, file, deadline, clock

    def check(self, what: str, value: float, limit: float, unit: str = "", note: str = "") -> None:
        """Compare ``value`` with the most that it may be; NaN is wrong."""
        self._add(Row(self._part, what, "right" if value <= limit else "wrong", value, unit, limit, note))

    def measure(self, what: str, value: float | str, unit: str = "", note: str = "") -> None:
        """Note a value of which nothing is asked."""
        self._add(Row(self._part, what, "measured", value, unit, note=note))

    def skip(self, what: str, why: str) -> None:
        """Say why something was not looked at."""
        self._add(Row(self._part, what, "skipped", note=why))

    def fail(self, what: str, why: str) -> None:
        """Say what went wrong."""
        self._add(Row(self._part, what, "failed", note=why))

    @contextmanager
    def case(self, what: str) -> Iterator[None]:
        """Do something that may go wrong: an error becomes a row, and the part goes on behind the block."""
        try:
            yield
        except Exception as error:
            lines = str(error).strip().splitlines()
            self.fail(what, f"{type(error).__name__}: {lines[0] if lines else 'no message'}")

    def time_left(self) -> float:
        """Seconds until the deadline."""
        return self._deadline - self._clock()

    def _add(self, row: Row) -> None:
        fields = asdict(row)
        if isinstance(row.value, float) and not math.isfinite(row.value):
            fields["value"] = str(row.value)  # JSON has no NaN
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(fields) + "\n")


def read_rows(file: Path) -> list[Row]:
    """The rows in a file of `Sheet`; none where there is no file, and half a line is passed over."""
    rows = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else []:
        try:
            rows.append(Row(**json.loads(line)))
        except ValueError:  # its writer was stopped there
            continue
    return rows
