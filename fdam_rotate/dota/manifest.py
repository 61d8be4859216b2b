"""The manifest of a split: which patch came from where, and what became of every object.

``OUT/manifest.json`` is UTF-8 JSON without times or machine names, so that the same input gives the same bytes::

    {
      "format": "fdam_rotate split", "version": 1, "tool_version": "0.1.0",
      "parameters": {"style": "mmrotate", "sizes": [1024], "gaps": [200], "rates": [1.0], "img_rate_thr": 0.6,
                     "iof_thr": 0.7, "padding": true, "padding_value": [0], "save_ext": ".png", "classes": null,
                     "bands": null, "scale_range": "auto"},
      "sources": {"img_dirs": [...], "ann_dirs": [...]},
      "totals": {"images": 3, "skipped": 0, "empty": 0, "patches": 7, "bytes": 13421772, "objects_in": 889,
                 "objects_kept": 881, "objects_cut": 25, "objects_dropped": {"cut": 2, "zero-area": 6},
                 "annotations": 2600, "problems": {"zero-area": 6}},
      "problems": [{"kind": "no-image", "file": "labelTxt/P9.txt", "line": 0, "text": "..."}],
      "images": [
        {"id": "P0003", "file": "images/P0003.png", "sha256": "...", "width": 1147, "height": 1023,
         "bands": null, "scale_range": null, "empty": 0, "tone": null,
         "label": "labelTxt/P0003.txt", "label_sha256": "...",
         "objects": {"in": 55, "kept": 54, "cut": 3, "dropped": {"cut": 1}},
         "problems": [],
         "patches": [
           {"id": "P0003__1024__0___0", "x": 0, "y": 0, "scale": 1.0, "width": 1024, "height": 1024, "bytes": 2034111,
            "lines": [3, 4, 9], "difficult": [0, 0, 1], "cut": [0, 1, 0]}]}]
    }

A point of the original image is ``(point of the patch + (x, y)) / scale``. ``width`` and ``height`` are the patch's,
padding included. Of an image, ``bands`` are those read from a raster (null of a plain picture), ``scale_range`` the
values that became 0 and 255 (null where 8-bit values stayed as they are), ``empty`` counts windows without data, which
have no patch, and ``tone`` says in words if the patches show next to nothing. ``lines``, ``difficult`` and ``cut`` have
one entry for each line of the patch's annotation file, in its order: the object's line in the label file, its
difficulty there, and 1 where the patch cuts the object (the annotation file then says difficulty 2). ``objects.in``
counts the object lines of the label file, ``kept`` those that are in one patch or more, ``cut`` those that one patch or
more cuts, and ``dropped`` the rest by reason:

* ``malformed``: the line cannot be read, or its class is not in the class list;
* ``zero-area``: the polygon is a line or a point;
* ``outside``: it shares no area with the image;
* ``cut``: no patch holds enough of it (MMRotate: a share of ``iof_thr``);
* ``shape``: DOTA_devkit only: in every patch the clipped polygon has fewer than four or more than five corners.

Always ``in == kept + sum(dropped)``. The kinds of ``problems`` are in :mod:`fdam_rotate.dota.splitting.split`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fdam_rotate import __version__
from fdam_rotate.dota.errors import ManifestError
from fdam_rotate.dota.files import write_text
from fdam_rotate.dota.jsontext import RECORD_ERRORS, read_json
from fdam_rotate.dota.names import MAX_PATCH_ID_BYTES, id_problem

__all__ = ["MANIFEST_NAME", "Manifest", "PatchLocation", "read_manifest"]

MANIFEST_NAME = "manifest.json"
_FORMAT = "fdam_rotate split"
_VERSION = 1


class PatchLocation(NamedTuple):
    """Where a patch lies: a point of the original image is ``(point of the patch + (x, y)) / scale``."""

    image_id: str
    x: int
    y: int
    scale: float


@dataclass(frozen=True)
class Manifest:
    """What one run of the splitter did; the module's docstring lists the fields of the records.

    Attributes:
        parameters: settings that decide the output.
        sources: the folders that were read.
        images: one record per image, sorted by id.
        problems: records of problems that belong to no split image.
        tool_version: version of this package that wrote it.
    """

    parameters: Mapping[str, Any]
    sources: Mapping[str, Any]
    images: Sequence[Mapping[str, Any]]
    problems: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    tool_version: str = __version__

    @cached_property
    def _locations(self) -> dict[str, PatchLocation]:
        return {
            patch["id"]: PatchLocation(image["id"], int(patch["x"]), int(patch["y"]), float(patch["scale"]))
            for image in self.images
            for patch in image["patches"]
        }

    def __contains__(self, patch_id: object) -> bool:
        return patch_id in self._locations

    def patch_ids(self) -> list[str]:
        """All patch ids, image by image in the order in which they were cut."""
        return list(self._locations)

    def locate(self, patch_id: str) -> PatchLocation:
        """Where ``patch_id`` was cut from.

        Raises:
            ManifestError: the split has no such patch.
        """
        try:
            return self._locations[patch_id]
        except KeyError:
            raise ManifestError(f"patch {patch_id!r} is not in the manifest; is it that of another split?") from None

    def windows(self) -> dict[str, NDArray[np.float64]]:
        """The patches of each image, (W, 4) xmin ymin xmax ymax in pixels of the image; padding reaches beyond it."""
        boxes = {}
        for image in self.images:
            rows = [[p["x"], p["y"], p["x"] + p["width"], p["y"] + p["height"], p["scale"]] for p in image["patches"]]
            table = np.array(rows, np.float64).reshape(-1, 5)
            boxes[image["id"]] = table[:, :4] / table[:, 4:]
        return boxes

    def all_problems(self) -> list[Mapping[str, Any]]:
        """Problems of no split image, then those of the images in their order."""
        return [*self.problems, *(problem for image in self.images for problem in image["problems"])]

    def totals(self) -> dict[str, Any]:
        """Counts over all images, as in the file.

        Raises:
            ManifestError: the objects of an image do not reconcile.
        """
        dropped: Counter[str] = Counter()
        for image in self.images:
            objects = image["objects"]
            if objects["in"] != objects["kept"] + sum(objects["dropped"].values()):
                raise ManifestError(f"image {image['id']!r}: {objects}: in is not kept + dropped")
            dropped.update(objects["dropped"])
        patches = [patch for image in self.images for patch in image["patches"]]
        problems = Counter(problem["kind"] for problem in self.all_problems())
        return {
            "images": len(self.images),
            "skipped": len({p["file"] for p in self.problems if p["kind"] in SKIPPING}),
            "empty": sum(image.get("empty", 0) for image in self.images),
            "patches": len(patches),
            "bytes": sum(patch["bytes"] for patch in patches),
            "objects_in": sum(image["objects"]["in"] for image in self.images),
            "objects_kept": sum(image["objects"]["kept"] for image in self.images),
            "objects_cut": sum(image["objects"]["cut"] for image in self.images),
            "objects_dropped": dict(sorted(dropped.items())),
            "annotations": sum(len(patch["lines"]) for patch in patches),
            "problems": dict(sorted(problems.items())),
        }

    def write(self, path: str | Path) -> None:
        """Write the file, all or nothing: one image per line."""
        head = {
            "format": _FORMAT,
            "version": _VERSION,
            "tool_version": self.tool_version,
            "parameters": dict(self.parameters),
            "sources": dict(self.sources),
            "totals": self.totals(),
            "problems": list(self.problems),
        }
        parts = [f"{_dump(key)}: {_dump(value)}" for key, value in head.items()]
        images = ",\n".join(_dump(dict(image)) for image in self.images)
        write_text(path, "{\n" + ",\n".join(parts) + ',\n"images": [\n' + images + "\n]\n}\n")


#: Kinds of problem for which an image is left out of the split.
SKIPPING = frozenset({"clash", "id", "image", "worker"})


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def read_manifest(path: str | Path) -> Manifest:
    """Read and check a manifest, given as the file or as the folder that holds ``manifest.json``.

    Raises:
        FileNotFoundError: there is none.
        ManifestError: it is no manifest, or of a later version, or its records are incomplete, repeated or do not
            reconcile.
    """
    path = Path(path)
    if path.is_dir():
        path = path / MANIFEST_NAME
    if not path.is_file():
        raise FileNotFoundError(f"manifest {path} does not exist; data_prep/split.py writes it")
    content = read_json(path, ManifestError)
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ManifestError(f'{path}: not a split manifest: expected "format": "{_FORMAT}"')
    if content.get("version") != _VERSION:
        raise ManifestError(f"{path}: version {content.get('version')!r}, expected {_VERSION}; update fdam_rotate")
    try:
        manifest = Manifest(
            content["parameters"], content["sources"], content["images"], content["problems"], content["tool_version"]
        )
        totals = manifest.totals()
        names = [patch["id"] for image in manifest.images for patch in image["patches"]]
        images = [image["id"] for image in manifest.images]
        found = [(name, id_problem(name)) for name in images]
        found += [(name, id_problem(name, MAX_PATCH_ID_BYTES)) for name in names]
        manifest.patch_ids()
        manifest.windows()
        recorded = {"empty": 0, **(content.get("totals") or {})}  # older ones do not count those
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from None
    except RECORD_ERRORS as error:
        raise ManifestError(f"{path}: a record is incomplete or of the wrong kind: {error!r}") from None
    if totals != recorded:
        raise ManifestError(f"{path}: the totals do not agree with the records: {totals} != {content.get('totals')}")
    for name, problem in found:
        if problem is not None:
            raise ManifestError(f"{path}: the id {name!r} {problem}")
    _refuse_repeated(path, "patch", names)
    _refuse_repeated(path, "image", images)
    return manifest


def _refuse_repeated(path: Path, what: str, names: Iterable[str]) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ManifestError(f"{path}: {what} {repeated[0]!r} occurs more than once")
