"""What becomes of the objects of one image: the annotation lines of every patch, and a count of all objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.classes import DOTA_CLASSES
from fdam_rotate.dota.labels import Labels
from fdam_rotate.dota.names import nearest_name
from fdam_rotate.dota.problems import Problem
from fdam_rotate.dota.splitting.devkit_objects import clip_objects
from fdam_rotate.dota.splitting.mmrotate_objects import assign_objects, label_lines, overlap_windows, round_as_mmrotate
from fdam_rotate.dota.splitting.options import Level, SplitOptions

__all__ = ["Annotations", "annotate"]

# A class name this close (0 to 1) to one of DOTA's, yet unlike it, is taken for a slip.
_SLIP = 0.85


@dataclass(frozen=True)
class PatchObjects:
    """The objects of one patch, in the order of its annotation file: text lines, object indices, cut or not."""

    lines: Sequence[str]
    objects: NDArray[np.intp]
    cut: NDArray[np.bool_]


@dataclass(frozen=True)
class Annotations:
    """All patches' objects, level by level and window by window, and the fate of every object of the image."""

    patches: Sequence[Sequence[PatchObjects]]
    counts: Mapping[str, Any]
    problems: Sequence[Problem]


def annotate(options: SplitOptions, labels: Labels, rejected: int, levels: Sequence[Level], shown: str) -> Annotations:
    """Assign the objects of an image to its patches.

    Args:
        options: the settings of the split.
        labels: the objects.
        rejected: label lines that could not be read; they count as objects that were dropped.
        levels: the patches.
        shown: the label file's name, for problems.
    """
    count = len(labels)
    patches: list[list[PatchObjects]] = []
    kept, cut = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    touched, empty, crossing = np.zeros(count, np.bool_), np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    for level in levels if count else []:
        if options.style == "mmrotate":
            polys = round_as_mmrotate(labels.polys)
            overlaps = overlap_windows(polys, level.windows)
            found = assign_objects(overlaps, len(level.windows), options.iof_thr)
            # added, not subtracted: so does MMRotate, which turns a coordinate of -0.0 into 0.0
            shift = np.tile(-level.windows[found.windows, :2], 4).astype(np.float32)
            shifted = polys[found.objects].astype(np.float32) + shift
            names = [labels.names[i] for i in found.objects.tolist()]
            lines = label_lines(shifted, names, labels.difficult[found.objects], found.cut)
            objects, windows, was_cut = found.objects, found.windows, found.cut
        else:
            clipped = clip_objects(labels, level, options.iof_thr, options.sizes[0])
            overlaps, lines = clipped.overlaps, clipped.lines
            objects, windows, was_cut = clipped.objects, clipped.windows, clipped.cut
        bounds = np.searchsorted(windows, np.arange(len(level.windows) + 1)).tolist()
        patches.append([PatchObjects(lines[a:b], objects[a:b], was_cut[a:b]) for a, b in pairwise(bounds)])
        kept[objects] = True
        cut[objects[was_cut]] = True
        empty |= (overlaps.whole == 0) & ~overlaps.crossing
        crossing |= overlaps.crossing
        lost = np.flatnonzero(~kept)
        frame = np.array([[0, 0, level.width, level.height]])
        scaled = labels.polys[lost] * level.scale
        touched[lost] |= overlap_windows(scaled, frame).touched()
    none = PatchObjects([], np.zeros(0, np.intp), np.zeros(0, np.bool_))
    patches = patches or [[none] * len(level.windows) for level in levels]

    outside = ~kept & ~empty & ~touched
    reasons = {"zero-area": ~kept & empty, "outside": outside}
    reasons["shape" if options.style == "devkit" else "cut"] = ~kept & ~empty & touched
    dropped = Counter({reason: int(which.sum()) for reason, which in reasons.items() if which.any()})
    if rejected:
        dropped["malformed"] = rejected
    counts = {
        "in": count + rejected,
        "kept": int(kept.sum()),
        "cut": int(cut.sum()),
        "dropped": dict(sorted(dropped.items())),
    }
    kinds = [
        ("zero-area", empty, "the polygon has no area"),
        ("self-crossing", crossing, "the polygon crosses or touches itself"),
        ("outside", outside, "the polygon lies outside the image"),
    ]
    problems = [
        Problem(kind, shown, int(labels.lines[i]), text) for kind, which, text in kinds for i in np.flatnonzero(which)
    ]
    if options.classes is None:
        problems += _odd_classes(labels, shown)
    return Annotations(patches, counts, sorted(problems, key=lambda problem: problem.line))


def _odd_classes(labels: Labels, shown: str) -> list[Problem]:
    """Class names that look like a slip for one of DOTA's, each reported once per file; they are kept as they are."""
    problems = []
    known = DOTA_CLASSES["v2.0"]
    for name, count in Counter(labels.names).items():
        close = None if name in known else nearest_name(name, known)
        if close and SequenceMatcher(None, name.lower().replace("_", "-"), close).ratio() >= _SLIP:
            line = int(labels.lines[labels.names.index(name)])
            problems.append(Problem("class", shown, line, f"class {name!r} ({count} objects): did you mean {close!r}?"))
    return problems
