"""What the command lines end with: problems and errors, a line each; exit codes (0 done, 1 failed on data, 2 usage)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from fdam_rotate.dota.errors import DotaError, ScoreError, Stopped
from fdam_rotate.dota.problems import Problem, format_problems

__all__ = ["print_problems", "run"]


def run(main: Callable[[], int]) -> None:
    """Exit with what ``main`` returns; bad data and missing files become one line on stderr, not a traceback."""
    try:
        code = main()
    except ScoreError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except (DotaError, FloatingPointError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        code = 1
    except Stopped as stop:
        print(f"stopped: {stop}", file=sys.stderr)
        code = stop.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    raise SystemExit(code)


def print_problems(problems: Sequence[Problem], rest: str = "", *, counted: bool = True) -> None:
    """Print problems to stderr, as `format_problems` has them."""
    for line in format_problems(problems, rest, counted=counted):
        print(line, file=sys.stderr)
