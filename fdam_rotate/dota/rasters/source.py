"""What is common to images held in memory and images read in windows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.rasters.tone import Tone

__all__ = ["PixelSource"]


class PixelSource(ABC):
    """An image that is open for reading.

    Attributes:
        width: of the image as shown, in pixels.
        height: of the image as shown, in pixels.
        bands: numbers of the bands read, red, green, blue, or one; None of a plain picture.
        scale_range: the values that become 0 and 255; None where 8-bit values stay as they are.
        tone: of the windows read so far.
    """

    def __init__(
        self,
        width: int,
        height: int,
        digest: str | Callable[[], str],
        bands: tuple[int, ...] | None = None,
        scale_range: tuple[float, float] | None = None,
    ) -> None:
        self.width = width
        self.height = height
        self._digest = digest
        self.bands = bands
        self.scale_range = scale_range
        self.tone = Tone()

    @property
    def digest(self) -> str:
        """SHA-256 of the file; of a large one it takes a while when it is first asked for."""
        if not isinstance(self._digest, str):
            self._digest = self._digest()
        return self._digest

    @abstractmethod
    def crops(
        self,
        windows: Sequence[Sequence[int]],
        *,
        wanted: Sequence[int] | None = None,
        skippable: Container[int] = (),
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Number and pixels, (H, W, 3) in the order blue, green, red, of each window (x0, y0, x1, y1).

        Windows are clipped to the image, and come in the order in which the file is best read, see `order`.

        Args:
            windows: in pixels of the image as shown.
            wanted: numbers of those that are to be read; None: all.
            skippable: numbers of windows that are left out if they hold no data.

        Raises:
            ImageReadError: the file is truncated or damaged.
        """

    def order(self, windows: Sequence[Sequence[int]]) -> list[int]:
        """The numbers of ``windows`` in the order in which `crops` gives them, whichever of them are wanted."""
        return list(range(len(windows)))

    def reading(self) -> dict[str, Any]:
        """Bands and range as manifests and journals keep them."""
        return {
            "bands": None if self.bands is None else list(self.bands),
            "scale_range": None if self.scale_range is None else list(self.scale_range),
        }

    def notes(self) -> list[str]:
        """What a user should know of how the image was read: its range if it was scaled, and if it shows nothing."""
        return reading_notes(**self.reading(), tone=self.tone.warning())


def reading_notes(bands: Sequence[int] | None, scale_range: Sequence[float] | None, tone: str | None) -> list[str]:
    """As `PixelSource.notes`, from what a manifest keeps."""
    found = []
    if bands is not None and scale_range is not None:
        low, high = scale_range
        found.append(f"bands {' '.join(map(str, bands))}, values {low:g} to {high:g} read as 0 to 255")
    if tone is not None:
        found.append(f"warning: {tone}; --scale-range and --bands set what is read")
    return found
