"""How much a split would write, estimated from the images' headers and a few patches encoded for trial."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fdam_rotate.dota.errors import ImageReadError
from fdam_rotate.dota.layout import image_problem, list_sources
from fdam_rotate.dota.problems import Problem
from fdam_rotate.dota.rasters.images import WholeImage, image_size, open_pixels
from fdam_rotate.dota.rasters.padding import encode_patch, pad_patch
from fdam_rotate.dota.splitting.options import SplitOptions, plan_levels

__all__ = ["Estimate", "estimate_split"]

# Trial patches come from at most this many images, the smallest of evenly spaced groups, so that a trial is quick.
_TRIALS = 8


@dataclass(frozen=True)
class Estimate:
    """What a split would write.

    Attributes:
        images: images that would be split.
        patches: patches that would be written.
        raw_bytes: the patches' size without compression.
        file_bytes: their size as files, extrapolated from trial patches.
        free_bytes: what the disk of the output has left.
        problems: images that cannot be read, clashes, missing files.
    """

    images: int
    patches: int
    raw_bytes: int
    file_bytes: int
    free_bytes: int
    problems: Sequence[Problem]


def estimate_split(
    img_dirs: Sequence[str | Path], ann_dirs: Sequence[str | Path] | None, save_dir: str | Path, options: SplitOptions
) -> Estimate:
    """Count the patches of a split (windows without data too), and estimate their bytes; writes nothing.

    Raises:
        FileNotFoundError: a folder does not exist.
        DotaError: there is no image.
    """
    problems: list[Problem] = []
    labels = [None if ann_dirs is None else Path(ann_dirs[i]) for i in range(len(img_dirs))]
    sources = list_sources([Path(folder) for folder in img_dirs], labels, problems)
    patches = raw = 0
    sized: list[tuple[int, str, Path]] = []
    for source in sources:
        try:
            width, height = image_size(source.path)
        except (ImageReadError, OSError) as error:
            problems.append(image_problem(source.path, error))
            continue
        sized.append((width * height, source.image_id, source.path))
        for level in plan_levels(options, source.image_id, width, height):
            patches += len(level.windows)
            raw += 3 * int(level.patch_sizes(options.padding).prod(axis=1).sum())
    groups = np.array_split(np.arange(len(sized)), min(_TRIALS, len(sized))) if sized else []
    trials = [min(sized[i] for i in group)[1:] for group in groups]
    written = pixels = 0
    for image_id, path in trials:
        try:
            with open_pixels(path, options.raster) as image:
                for level in plan_levels(options, image_id, image.width, image.height):
                    middle = len(level.windows) // 2
                    size = level.patch_sizes(options.padding)[middle].tolist()
                    scaled = image.resized(level.scale) if isinstance(image, WholeImage) else image
                    if (scaled.width, scaled.height) != (level.width, level.height):
                        continue  # too large to resize for a trial
                    for _, crop in scaled.crops(level.windows[middle : middle + 1].tolist()):
                        patch = pad_patch(crop, size, options.padding_value)
                        written += len(encode_patch(patch, options.save_ext))
                        pixels += patch.size
        except (ImageReadError, OSError) as error:
            problems.append(image_problem(path, error))
    folder = Path(save_dir).absolute()
    while not folder.exists():
        folder = folder.parent
    share = written / pixels if pixels else 0.0
    return Estimate(len(sized), patches, raw, round(raw * share), shutil.disk_usage(folder).free, problems)
