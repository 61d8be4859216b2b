"""Settings of a split, and the patches that they make of an image of a given size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.rasters.options import RasterOptions
from fdam_rotate.dota.windows import devkit_name, mmrotate_name, scaled_sizes, slide_windows

__all__ = ["SAVE_EXTENSIONS", "Level", "SplitOptions", "plan_levels"]

SAVE_EXTENSIONS = (".png", ".jpg", ".bmp", ".tif")


@dataclass(frozen=True)
class SplitOptions:
    """What decides the output of a split; names, meanings and defaults are those of MMRotate's img_split.

    Attributes:
        style: ``mmrotate`` (windows of size / rate over the original) or ``devkit`` (the image is resized by the rate).
        sizes: sides of the windows in pixels.
        gaps: overlaps in pixels, one for each size.
        rates: scales; several only with one size.
        img_rate_thr: a window needs more than this share of image (``mmrotate`` only).
        iof_thr: an object belongs to a window that holds at least this share of it (``mmrotate``); one that holds no
            more is marked as difficulty 2 (``devkit``).
        padding: whether patches at the border are filled up to the window's size.
        padding_value: one value, or one for each of blue, green, red.
        save_ext: kind of the patch files.
        classes: the allowed class names; None allows any.
        raster: which bands and values of rasters become pixels.

    Raises:
        DotaError: settings out of range or at odds with each other.
    """

    style: Literal["mmrotate", "devkit"] = "mmrotate"
    sizes: Sequence[int] = (1024,)
    gaps: Sequence[int] = (512,)
    rates: Sequence[float] = (1.0,)
    img_rate_thr: float = 0.6
    iof_thr: float = 0.7
    padding: bool = True
    padding_value: Sequence[int] = (0,)
    save_ext: str = ".png"
    classes: Sequence[str] | None = None
    raster: RasterOptions = field(default_factory=RasterOptions)

    def __post_init__(self) -> None:
        checks = {
            f"style must be mmrotate or devkit, got {self.style!r}": self.style in ("mmrotate", "devkit"),
            f"expected one gap for each size, got sizes {list(self.sizes)} and gaps {list(self.gaps)}": (
                len(self.sizes) == len(self.gaps) >= 1
            ),
            f"expected one size or one rate, got sizes {list(self.sizes)} and rates {list(self.rates)}": (
                len(self.sizes) == 1 or len(self.rates) == 1
            ),
            f"the devkit's names hold no size, so it takes one size, got {list(self.sizes)}": (
                self.style == "mmrotate" or len(self.sizes) == 1
            ),
            f"rates must be above 0 and below 16, got {list(self.rates)}": (
                len(self.rates) >= 1 and all(0 < rate < 16 for rate in self.rates)
            ),
            f"img_rate_thr must be in [0, 1], got {self.img_rate_thr}": 0 <= self.img_rate_thr <= 1,
            f"iof_thr must be in [0, 1), got {self.iof_thr}": 0 <= self.iof_thr < 1,
            f"padding_value must be 1 or 3 values in 0 to 255, got {list(self.padding_value)}": (
                len(self.padding_value) in (1, 3) and all(0 <= value <= 255 for value in self.padding_value)
            ),
            f"save_ext must be one of {' '.join(SAVE_EXTENSIONS)}, got {self.save_ext!r}": (
                self.save_ext in SAVE_EXTENSIONS
            ),
        }
        for message, holds in checks.items():
            if not holds:
                raise DotaError(message)
        plan_levels(self, "", 1, 1)  # raises where a size or an overlap is impossible

    def to_json(self) -> dict[str, Any]:
        """As the manifest keeps them: lists instead of tuples, rates as floats."""
        return {
            "style": self.style,
            "sizes": list(self.sizes),
            "gaps": list(self.gaps),
            "rates": [float(rate) for rate in self.rates],
            "img_rate_thr": float(self.img_rate_thr),
            "iof_thr": float(self.iof_thr),
            "padding": self.padding,
            "padding_value": list(self.padding_value),
            "save_ext": self.save_ext,
            "classes": None if self.classes is None else list(self.classes),
            **self.raster.to_json(),
        }


@dataclass(frozen=True)
class Level:
    """The windows over one scale of an image.

    Attributes:
        scale: size of the resized image over that of the original.
        width: of the resized image, in pixels.
        height: of the resized image, in pixels.
        windows: (W, 4) x0, y0, x1, y1 in the resized image.
        names: W patch ids.
    """

    scale: float
    width: int
    height: int
    windows: NDArray[np.int64]
    names: tuple[str, ...]

    def patch_sizes(self, padding: bool) -> NDArray[np.int64]:
        """Width and height (W, 2) of the patches."""
        ends = self.windows[:, 2:] if padding else np.minimum(self.windows[:, 2:], (self.width, self.height))
        sizes: NDArray[np.int64] = ends - self.windows[:, :2]
        return sizes


def plan_levels(options: SplitOptions, image_id: str, width: int, height: int) -> list[Level]:
    """The patches of an image of ``width`` by ``height`` pixels: one level, or one a rate in the devkit's style."""
    if options.style == "mmrotate":
        sizes, gaps = scaled_sizes(options.sizes, options.gaps, options.rates)
        windows = slide_windows(width, height, sizes, gaps, img_rate_thr=options.img_rate_thr)
        names = tuple(mmrotate_name(image_id, x1 - x0, x0, y0) for x0, y0, x1, _ in windows.tolist())
        return [Level(1.0, width, height, windows, names)]
    levels = []
    for rate in dict.fromkeys(map(float, options.rates)):
        # cv2.resize rounds halves to even, and so does round(); a side never becomes 0
        wide, high = max(round(width * rate), 1), max(round(height * rate), 1)
        windows = slide_windows(wide, high, options.sizes, options.gaps)
        names = tuple(devkit_name(image_id, rate, x0, y0) for x0, y0 in windows[:, :2].tolist())
        levels.append(Level(rate, wide, high, windows, names))
    return levels


def differences(recorded: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """The settings in which two records differ, in words; empty where they agree."""
    names = [name for name in dict.fromkeys([*recorded, *wanted]) if recorded.get(name) != wanted.get(name)]
    return ", ".join(f"{name} {recorded.get(name)!r} there and {wanted.get(name)!r} here" for name in names)
