"""Pictures that matplotlib draws without a display."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fdam_rotate.dota.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["figure_file"]


@contextmanager
def figure_file(path: str | Path, size: tuple[float, float], **saving: Any) -> Iterator[Figure]:
    """A figure to draw on, written to ``path`` when the block ends, all or nothing. A $ in a name is a $.

    Args:
        path: of the picture.
        size: width and height in inches.
        saving: for ``Figure.savefig``.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context({"text.parse_math": False}):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        with atomic_path(path) as temporary:
            figure.savefig(temporary, **saving)
