"""Detections as HTML pages: the image to pan and zoom, boxes by class and score, and what a click on one shows.

There is one page per image, which stands alone: a run of many images in one page would be hundreds of megabytes, and
could not be passed on in part. Each names the pages before and after it, so that a run is looked through by them.

A page holds the image as `pyramid` says (at most 32 megapixels, and as much again of detail), and at most
`boxes.MAX_BOXES` detections. It is made and written before the next image is opened.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fdam_rotate.dota.detections import Detections
from fdam_rotate.dota.errors import GeoReferenceError, ImageReadError
from fdam_rotate.dota.files import write_text
from fdam_rotate.dota.layout import SourceImage
from fdam_rotate.dota.progress import progress_over
from fdam_rotate.dota.rasters.georeference import GeoReference, read_georeference
from fdam_rotate.dota.rasters.images import open_pixels
from fdam_rotate.dota.rasters.options import RasterOptions
from fdam_rotate.dota.rasters.source import PixelSource
from fdam_rotate.dota.viewing.boxes import best_first, box_columns
from fdam_rotate.dota.viewing.pyramid import TILE, build_pyramid
from fdam_rotate.dota.webpage import data_block, web_page

__all__ = ["FIRST_SCORE", "PagesSummary", "image_page", "page_name", "write_pages"]

#: Least score that a page shows when it is opened.
FIRST_SCORE = 0.3


@dataclass
class PagesSummary:
    """What was written.

    Attributes:
        pages: how many.
        failures: one line for each image that could not be read.
        notes: one line for each image that was scaled to 8 bits, or shows next to nothing.
    """

    pages: int = 0
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def page_name(image_id: str) -> str:
    """The file name of an image's page."""
    return f"{image_id}.html"


def write_pages(
    sources: Sequence[SourceImage],
    found: Mapping[str, Mapping[str, Detections]],
    out: str | Path,
    *,
    classes: Sequence[str],
    raster: RasterOptions | None = None,
    least: float = FIRST_SCORE,
    progress: bool = False,
) -> PagesSummary:
    """Write a page for every image of ``sources`` to the folder ``out``, where files of these names are replaced.

    Args:
        sources: images, each id once.
        found: image id -> class -> detections of this image, in its pixels.
        out: the folder; it is made.
        classes: class names in their order; detections of others are left out.
        raster: bands and range of rasters.
        least: the score that a page begins with; the slider goes down to the lowest.
        progress: draw a progress bar.
    """
    summary = PagesSummary()
    ids = [source.image_id for source in sources]
    for number, source in enumerate(progress_over(sources, "page", "image", shown=progress)):
        beside = (ids[number - 1] if number else None, ids[number + 1] if number + 1 < len(ids) else None)
        own = found.get(source.image_id, {})
        try:
            with open_pixels(source.path, raster) as image:
                text = image_page(
                    image, source.image_id, own, classes, reference=_place(source.path), least=least, beside=beside
                )
        except (ImageReadError, OSError) as error:
            summary.failures.append(str(error))
            continue
        summary.notes += [f"{source.path}: {note}" for note in image.notes()]
        write_text(Path(out) / page_name(source.image_id), text)
        summary.pages += 1
    return summary


def image_page(
    image: PixelSource,
    image_id: str,
    detections: Mapping[str, Detections],
    classes: Sequence[str],
    *,
    reference: GeoReference | None = None,
    least: float = FIRST_SCORE,
    beside: tuple[str | None, str | None] = (None, None),
) -> str:
    """One page as text.

    Args:
        image: open for reading.
        image_id: its name.
        detections: class -> detections, all of this image.
        classes: class names in their order.
        reference: where the image lies; lengths are then given in metres too.
        least: the score that the page begins with.
        beside: ids of the images before and after this one, whose pages it leads to.

    Raises:
        ImageReadError: the file is truncated or damaged.
    """
    cls, scores, polys = best_first(detections, classes)
    levels = build_pyramid(image, polys)
    held = int(sum(len(detections[name]) for name in classes if name in detections))
    low, high = (float(scores[-1]), float(scores[0])) if len(scores) else (0.0, 1.0)
    content: dict[str, Any] = {
        "name": image_id,
        "width": image.width,
        "height": image.height,
        "tile": TILE,
        # the slider: from a hundredth at or below the lowest score
        "low": math.floor(low * 100) / 100,
        "high": max(1.0, math.ceil(high * 100) / 100),
        "least": least,
        "left_out": held - len(scores),
        "beside": [one and {"name": one, "file": f"./{quote(page_name(one), safe='')}"} for one in beside],
        "boxes": box_columns(cls, scores, polys, classes, reference),
        "levels": [
            {
                "scale": level.scale,
                "columns": level.columns,
                "rows": level.rows,
                "tiles": {str(key): base64.b64encode(jpeg).decode("ascii") for key, jpeg in level.tiles.items()},
            }
            for level in levels
        ],
    }
    body = f"{_part('viewer.html')}{data_block('data', content)}"
    script = "\n".join(map(_part, ("boxes.js", "lines.js", "viewer.js")))
    return web_page(f"{image_id}: detections", body, style=_part("viewer.css"), script=script)


def _place(path: Path) -> GeoReference | None:
    """Where an image lies, if its file says so in a way that can be used; predict says why where it cannot."""
    try:
        return read_georeference(path)
    except GeoReferenceError:
        return None


def _part(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
