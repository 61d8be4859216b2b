"""What the command lines end with: errors as one line, exit codes (0 done, 1 failed on data, 2 usage)."""

from __future__ import annotations

import sys
from collections.abc import Callable

from fdam_rotate.dota.errors import DotaError, ScoreError, Stopped

__all__ = ["run"]


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
