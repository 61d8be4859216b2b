"""Steps of pipelines that MMDetection and MMRotate lack."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from mmdet.datasets.pipelines import LoadImageFromFile
from mmrotate.datasets.builder import ROTATED_PIPELINES

from fdam_rotate.dota.rasters.images import read_header, read_image
from fdam_rotate.dota.rasters.options import RasterOptions

__all__ = ["DrawScale", "LoadAnyImage"]


@ROTATED_PIPELINES.register_module()
class LoadAnyImage(LoadImageFromFile):
    """``LoadImageFromFile`` that reads rasters as ``split`` and ``predict`` do, and plain pictures as it always did.

    A raster is what ``fdam_rotate.dota.rasters`` calls so: every TIFF and JPEG 2000, and PNG of 16 bits or with alpha.
    `DOTAPatchDataset` puts this step in the place of ``LoadImageFromFile``.

    Args:
        bands: of rasters, as `RasterOptions` has them.
        scale_range: of rasters of other than 8 bits.
        **settings: of ``LoadImageFromFile``.

    Raises:
        ImageReadError: a file is damaged, no image, or lacks the bands.
    """

    def __init__(
        self,
        bands: Sequence[int] | None = None,
        scale_range: tuple[float, float] | Literal["auto"] = "auto",
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.raster = RasterOptions(bands, scale_range)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Load ``img_info['filename']`` of ``img_prefix``."""
        name = results["img_info"]["filename"]
        path = Path(results["img_prefix"] or "") / name
        if self.raster.bands is None and read_header(path).plain:
            loaded: dict[str, Any] = super().__call__(results)
            return loaded
        image, _ = read_image(path, self.raster)
        results.update(filename=str(path), ori_filename=name, img_fields=["img"])
        results["img"] = image.astype(np.float32) if self.to_float32 else image
        results["img_shape"] = results["ori_shape"] = image.shape
        return results


@ROTATED_PIPELINES.register_module()
class DrawScale:
    """Draw the factor by which the ``RResize`` that follows resizes the image, evenly from a range.

    ``RResize`` itself knows target sizes only, so that a large image and a small one of the same resolution would be
    resized differently.

    Args:
        low: least factor, above 0.
        high: greatest factor, not below ``low``.
    """

    def __init__(self, low: float, high: float) -> None:
        if not 0 < low <= high:
            raise ValueError(f"expected 0 < low <= high, got low={low} and high={high}")
        self.low, self.high = low, high

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Set ``scale_factor``, which ``RResize`` takes where no ``scale`` is set."""
        results["scale_factor"] = float(np.random.uniform(self.low, self.high))  # noqa: NPY002 - as all steps, so that one seed rules
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}(low={self.low}, high={self.high})"
