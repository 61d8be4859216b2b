"""Detections of other programs, read as ours: class -> :class:`fdam_rotate.dota.detections.Detections`.

    dota         folder or zip with Task1_<class>.txt (or Task2)
    ultralytics  predictions.json of ``yolo obb val save_json=True``: image_id, file_name, category_id, score,
                 rbox (centre, sides, radians clockwise), poly (corners)
                 (ultralytics/models/yolo/obb/val.py, ``pred_to_json``)
    coco         results JSON: image_id, category_id, score and segmentation (one polygon), or bbox of five numbers in
                 a convention that is named (https://cocodataset.org/#format-results)
    geojson      what tools/predict.py writes: polygons with image, class and score, in longitude and latitude, put
                 back onto the pixels of the georeferenced image

Corners win over five numbers where a record holds both, because Ultralytics rounds its angles to 0.001 radian; both
must be the same box. COCO numbers its images and classes: their names come from the ground truth's JSON. Ultralytics
counts classes from 0 or, since 8.3, from 1, and neither is written down: where the data leave it open, it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.detections import Detections, read_detections
from fdam_rotate.dota.errors import DetectionFormatError, DotaError, ScoreError
from fdam_rotate.dota.formats.angles import CONVENTIONS, boxes_to_polys, check_convention, fitting_conventions
from fdam_rotate.dota.formats.boxes import corners_of
from fdam_rotate.dota.jsontext import RECORD_ERRORS, read_json
from fdam_rotate.dota.labels import MAX_COORDINATE
from fdam_rotate.dota.layout import image_files
from fdam_rotate.dota.names import class_name, did_you_mean
from fdam_rotate.dota.problems import Problem

__all__ = ["PREDICTION_FORMATS", "CocoNames", "read_coco_names", "read_predictions", "read_run", "sniff_predictions"]

#: The formats that `read_predictions` knows.
PREDICTION_FORMATS = ("dota", "ultralytics", "coco", "geojson")


@dataclass(frozen=True)
class CocoNames:
    """What a COCO file calls its numbers: image id -> file stem, category id -> class name."""

    images: Mapping[Any, str] = field(default_factory=dict)
    classes: Mapping[int, str] = field(default_factory=dict)


def read_predictions(
    path: str | Path,
    format: str | None = None,
    *,
    classes: Sequence[str] | None = None,
    task: int = 1,
    angle: str | None = None,
    first_class: int | None = None,
    annotations: str | Path | None = None,
    img_dir: str | Path | None = None,
    image_ids: Iterable[str] | None = None,
    problems: list[Problem] | None = None,
) -> dict[str, Detections]:
    """Read detections in any of ``PREDICTION_FORMATS``.

    Args:
        path: file or folder.
        format: one of ``PREDICTION_FORMATS``; None looks at the file.
        classes: class names in the order of the model; those that JSON numbers stand for, and for ``dota`` and
            ``geojson`` the classes to read (None: all).
        task: 1 or 2, of ``dota``.
        angle: a name of ``CONVENTIONS``, for COCO boxes of five numbers.
        first_class: the number of the first class, 0 or 1; None takes what the data allow, if only one does.
        annotations: the ground truth's COCO JSON, which names the images and classes of COCO results.
        img_dir: folder with the georeferenced images of GeoJSON.
        image_ids: the ids that are expected; Ultralytics' numbers are given back their leading zeros with them.
        problems: where bad records are collected while the rest is read; None raises at the first one.

    Returns:
        Class -> detections in the order of the file. A class that JSON does not mention is absent.

    Raises:
        DetectionFormatError: a record is bad and ``problems`` is None, or the file is none of the formats, or the
            numbers contradict the convention.
        DotaError: something is missing that the format needs: class names, the convention, images.
        FileNotFoundError: there is no such file or folder.
    """
    path = Path(path)
    if format is None:
        format = sniff_predictions(path)
    if format not in PREDICTION_FORMATS:
        raise ValueError(f"format must be one of {', '.join(PREDICTION_FORMATS)}, got {format!r}")
    if angle is not None and angle not in CONVENTIONS:
        raise DotaError(f"unknown angle convention {angle!r}; known are {', '.join(map(str, CONVENTIONS.values()))}")
    if format == "dota":
        return read_detections(path, classes=classes, task=task, problems=problems)
    if format == "geojson":
        return _read_geojson(path, classes, img_dir, problems)
    records = read_json(path, DetectionFormatError)
    if not isinstance(records, list):
        raise DetectionFormatError(f"{path}: expected a list of detections{_looks_like(records)}")
    reader = _Records(path, problems)
    if format == "ultralytics":
        return reader.ultralytics(records, classes, first_class, image_ids)
    names = read_coco_names(annotations) if annotations is not None else None
    return reader.coco(records, classes, first_class, names, CONVENTIONS[angle] if angle else None)


def read_run(
    path: str | Path,
    format: str | None = None,
    *,
    classes: Sequence[str],
    annotations: str | Path | None = None,
    problems: list[Problem] | None = None,
    **more: Any,
) -> dict[str, Detections]:
    """Read the detections of a run that is to be scored.

    Args:
        path: file or folder.
        format: one of ``PREDICTION_FORMATS``; None looks at the file.
        classes: the classes that are scored; others are read too, where the file names them, so that they are counted.
        annotations: as for `read_predictions`.
        problems: as for `read_predictions`.
        **more: as for `read_predictions`.

    Raises:
        ScoreError: there is no detection of these classes.
        DotaError: as `read_predictions`.
        FileNotFoundError: there is no such file or folder.
    """
    path = Path(path)
    kind = format or sniff_predictions(path)
    numbered = kind == "ultralytics" or (kind == "coco" and annotations is None)
    try:
        detections = read_predictions(
            path, kind, classes=classes if numbered else None, annotations=annotations, problems=problems, **more
        )
    except FileNotFoundError as error:  # the folder is there, and nothing of its task is in it
        if not path.exists():
            raise
        raise ScoreError(str(error)) from error
    if not any(len(found) for name, found in detections.items() if name in classes):
        raise ScoreError(f"{path} holds no detection of the classes {', '.join(classes)}: nothing to score")
    return detections


def sniff_predictions(path: str | Path) -> str:
    """The format of ``path``, found by its contents.

    Raises:
        DetectionFormatError: it is none of ``PREDICTION_FORMATS``; the message says what it looks like.
        FileNotFoundError: there is no such file or folder.
    """
    path = Path(path)
    if path.is_dir():
        names = [one.name for one in path.iterdir()]
        if any(name.startswith(("Task1_", "Task2_")) and name.endswith(".txt") for name in names):
            return "dota"
        if _geojson_files(path):
            return "geojson"
        if "predictions.json" in names:
            raise DetectionFormatError(f"{path} is a folder of a run: give its predictions.json")
        return "dota"  # whose reader says what is missing
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; give detections: a folder, a zip or a JSON file")
    if path.suffix.lower() not in (".json", ".geojson"):
        return "dota"
    content = read_json(path, DetectionFormatError)
    if isinstance(content, Mapping) and content.get("type") == "FeatureCollection":
        return "geojson"
    if isinstance(content, list):
        first = next((one for one in content if isinstance(one, Mapping)), {})
        if "rbox" in first or "poly" in first:
            return "ultralytics"
        if not content or ("category_id" in first and ("segmentation" in first or "bbox" in first)):
            return "coco"
    raise DetectionFormatError(
        f"{path}: neither Ultralytics' predictions.json, COCO results nor GeoJSON{_looks_like(content)}"
    )


def read_coco_names(path: str | Path) -> CocoNames:
    """The names in a COCO annotation file.

    Raises:
        DotaError: the file is no COCO file.
    """
    content = read_json(Path(path), DetectionFormatError)
    try:
        return CocoNames(
            {
                image["id"]: PurePosixPath(str(image["file_name"]).replace("\\", "/")).stem
                for image in content["images"]
            },
            {int(one["id"]): class_name("-".join(str(one["name"]).split())) for one in content["categories"]},
        )
    except RECORD_ERRORS as error:
        raise DotaError(f"{path}: not a COCO annotation file with images and categories: {error!r}") from None


def _stem(file_name: Any) -> str:
    """The id of an image by its file name, of Windows too."""
    return PurePosixPath(str(file_name).replace("\\", "/")).stem


def _looks_like(content: Any) -> str:
    """What a JSON file that is no list of detections seems to be."""
    if isinstance(content, Mapping):
        if "annotations" in content and "images" in content:
            return "; it looks like COCO annotations (ground truth), not results"
        if "shapes" in content:
            return "; it looks like labelme annotations"
        return f"; it is an object with {', '.join(sorted(map(str, content))[:5]) or 'nothing'}"
    if isinstance(content, list) and content and isinstance(content[0], Mapping):
        if "data" in content[0] and ("annotations" in content[0] or "predictions" in content[0]):
            return "; it looks like Label Studio tasks"
        return f"; its records hold {', '.join(sorted(map(str, content[0]))[:8])}"
    return ""


@dataclass
class _Found:
    """The detections of one class while they are gathered."""

    ids: dict[str, int] = field(default_factory=dict)
    image: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    polys: list[NDArray[np.float64]] = field(default_factory=list)

    def add(self, image_id: str, score: float, poly: NDArray[np.float64]) -> None:
        self.image.append(self.ids.setdefault(image_id, len(self.ids)))
        self.scores.append(score)
        self.polys.append(poly)

    def done(self) -> Detections:
        polys = np.array(self.polys, np.float64).reshape(-1, 8)
        return Detections(tuple(self.ids), np.array(self.image, np.intp), np.array(self.scores, np.float64), polys)


class _Records:
    """The lists of records of Ultralytics and COCO."""

    def __init__(self, path: Path, problems: list[Problem] | None) -> None:
        self.path = path
        self.problems = problems

    def ultralytics(
        self,
        records: list[Any],
        classes: Sequence[str] | None,
        first_class: int | None,
        image_ids: Iterable[str] | None,
    ) -> dict[str, Detections]:
        if classes is None:
            raise DotaError(f"{self.path}: classes are numbers there; give their names in the order of the model")
        by_number = _numbers_of(image_ids)
        first = self._first_class(records, len(classes), first_class)
        rows: list[tuple[str, str, float, Any, Any, int]] = []
        for number, record in enumerate(records):
            try:
                name = classes[_index(record["category_id"], first, len(classes))]
                if "file_name" in record:  # the id is a number where the name is one, without its leading zeros
                    image_id = _stem(record["file_name"])
                else:
                    image_id = by_number.get(record["image_id"], str(record["image_id"]))
                poly = _numbers(record["poly"], 8) if "poly" in record else None
                box = _numbers(record["rbox"], 5) if "rbox" in record else None
                if poly is None and box is None:
                    raise ValueError("neither poly nor rbox")
                rows.append((name, image_id, _score(record["score"]), poly, box, number))
            except RECORD_ERRORS as error:
                self._report(number, error)
        return self._boxes(rows, "ultralytics")

    def coco(
        self,
        records: list[Any],
        classes: Sequence[str] | None,
        first_class: int | None,
        names: CocoNames | None,
        convention: Any,
    ) -> dict[str, Detections]:
        if names is None and classes is None:
            raise DotaError(
                f"{self.path}: images and classes are numbers there; give the ground truth's COCO JSON, which names "
                "them, or at least the class names"
            )
        first = 0 if names is not None else self._first_class(records, len(classes or ()), first_class)
        rows: list[tuple[str, str, float, Any, Any, int]] = []
        for number, record in enumerate(records):
            try:
                category = record["category_id"]
                if names is None:
                    assert classes is not None
                    name = classes[_index(category, first, len(classes))]
                elif category in names.classes:
                    name = names.classes[category]
                else:
                    raise ValueError(f"category_id {category!r} is not among the categories")
                if names is not None and record["image_id"] not in names.images:
                    raise ValueError(f"image_id {record['image_id']!r} is not among the images")
                image_id = str(record["image_id"]) if names is None else names.images[record["image_id"]]
                poly, box = self._coco_shape(record)
                rows.append((name, image_id, _score(record["score"]), poly, box, number))
            except RECORD_ERRORS as error:
                self._report(number, error)
        bare = [box for *_, poly, box, _ in rows if poly is None]
        if bare and convention is None:
            fits = ", ".join(str(CONVENTIONS[name]) for name in fitting_conventions(bare)) or "none that is known"
            raise DotaError(
                f"{self.path}: {len(bare)} boxes of five numbers without corners: say in which convention. "
                f"Their range fits {fits}"
            )
        found = self._boxes(rows, convention.name if convention is not None else None)
        for name in found:
            if classes is not None and name not in classes:
                self._report(None, ValueError(f"unknown class {name!r}{did_you_mean(name, classes)}"), kind="class")
        return found if classes is None else {name: found[name] for name in classes if name in found}

    def _coco_shape(self, record: Mapping[str, Any]) -> tuple[Any, Any]:
        """Corners (8,) and five numbers of a record, either may be None; an upright bbox becomes corners."""
        segmentation, bbox = record.get("segmentation"), record.get("bbox")
        box = _numbers(bbox, 5) if isinstance(bbox, list) and len(bbox) == 5 else None
        if isinstance(segmentation, Mapping):
            raise ValueError("a run-length mask, not a polygon; give polygons or boxes")
        if segmentation:
            if len(segmentation) != 1:
                raise ValueError(f"a segmentation of {len(segmentation)} polygons, expected one")
            points = _numbers(segmentation[0], None).reshape(-1, 2)
            return corners_of(points)[0], box
        if box is None and bbox is not None:
            x, y, w, h = _numbers(bbox, 4)
            return np.array([x, y, x + w, y, x + w, y + h, x, y + h]), None
        if box is None:
            raise ValueError("neither segmentation nor bbox")
        return None, box

    def _boxes(self, rows: list[tuple[str, str, float, Any, Any, int]], angle: str | None) -> dict[str, Detections]:
        """Detections by class; corners where there are some, else five numbers after the check of both together."""
        with_box = [k for k, row in enumerate(rows) if row[4] is not None]
        polys: dict[int, NDArray[np.float64]] = {}
        if with_box and angle is not None:
            convention = CONVENTIONS[angle]
            boxes = np.array([rows[k][4] for k in with_box])
            blank = np.full(8, np.nan)
            corners = np.array([blank if rows[k][3] is None else rows[k][3] for k in with_box])
            check_convention(boxes, convention, str(self.path), corners, [rows[k][5] for k in with_box])
            polys = dict(zip(with_box, boxes_to_polys(boxes, convention), strict=True))
        found: dict[str, _Found] = {}
        for k, (name, image_id, score, poly, _, _) in enumerate(rows):
            found.setdefault(name, _Found()).add(image_id, score, polys[k] if poly is None else poly)
        return {name: one.done() for name, one in found.items()}

    def _first_class(self, records: list[Any], count: int, given: int | None) -> int:
        """0 or 1: the number of the first class."""
        numbers = {
            one["category_id"]
            for one in records
            if isinstance(one, Mapping) and isinstance(one.get("category_id"), int)
        }
        allowed = [first for first in (0, 1) if not numbers or first <= min(numbers) <= max(numbers) < first + count]
        if given is not None:
            if given not in allowed:
                raise DetectionFormatError(
                    f"{self.path}: category_id goes from {min(numbers)} to {max(numbers)}: not {count} classes counted "
                    f"from {given}"
                )
            return given
        if not numbers or len(allowed) == 1:
            return allowed[0]
        what = f"{self.path}: category_id goes from {min(numbers)} to {max(numbers)}"
        if not allowed:
            raise DetectionFormatError(f"{what}, which {count} classes do not explain; give the model's class list")
        raise DotaError(
            f"{what}: {count} classes may be counted from 0 or from 1; say which (Ultralytics: from 1 since 8.3, "
            "before from 0)"
        )

    def _report(self, number: int | None, error: Exception, kind: str = "malformed") -> None:
        text = f"no {error.args[0]!r}" if isinstance(error, KeyError) else str(error)
        problem = Problem(kind, str(self.path), 0, text if number is None else f"record {number}: {text}")
        if self.problems is None:
            raise DetectionFormatError(str(problem))
        self.problems.append(problem)


def _numbers(values: Any, count: int | None) -> NDArray[np.float64]:
    """A list of finite numbers as an array."""
    if not isinstance(values, (list, tuple)) or (count is not None and len(values) != count):
        raise ValueError(f"expected {count or 'a list of'} numbers, got {str(values)[:60]!r}")
    if any(isinstance(value, (bool, str)) for value in values):
        raise ValueError(f"not all numbers: {str(values)[:60]!r}")
    array = np.array(values, np.float64)
    if array.ndim != 1 or not (np.abs(array) <= MAX_COORDINATE).all() or (count is None and len(array) % 2):
        raise ValueError(f"not finite coordinates: {str(values)[:60]!r}")
    return array


def _score(value: Any) -> float:
    score = float(value)
    if isinstance(value, (bool, str)) or not -1e7 < score < 1e7:
        raise ValueError(f"score {value!r} is no finite number")
    return score


def _index(category: Any, first: int, count: int) -> int:
    if not isinstance(category, int) or not first <= category < first + count:
        raise ValueError(f"category_id {category!r} is not within {first} to {first + count - 1}")
    return category - first


def _numbers_of(image_ids: Iterable[str] | None) -> dict[Any, str]:
    """Number -> id, for ids of digits; a number that two ids share stands for neither."""
    known: dict[Any, str] = {}
    twice = set()
    for image_id in image_ids or ():
        if image_id.isnumeric():
            number = int(image_id)
            twice |= {number} & known.keys()
            known[number] = image_id
    return {number: image_id for number, image_id in known.items() if number not in twice}


def _read_geojson(
    path: Path, classes: Sequence[str] | None, img_dir: str | Path | None, problems: list[Problem] | None
) -> dict[str, Detections]:
    """Read one GeoJSON file, or all of a folder, sorted by name."""
    from fdam_rotate.dota.rasters.georeference import read_georeference

    if img_dir is None:
        raise DotaError(f"{path}: to put GeoJSON back onto pixels, give the folder of the georeferenced images")
    files = _geojson_files(path) if path.is_dir() else [path]
    images = {one.stem: one for one in image_files(Path(img_dir))}
    references: dict[str, Any] = {}
    found: dict[str, _Found] = {}
    for file in files:
        content = read_json(file, DetectionFormatError)
        if not isinstance(content, Mapping) or content.get("type") != "FeatureCollection":
            raise DetectionFormatError(f"{file}: expected a GeoJSON FeatureCollection{_looks_like(content)}")
        try:
            system = ((content.get("crs") or {}).get("properties") or {}).get("name")
            features = list(content.get("features") or ())
        except (AttributeError, TypeError):
            raise DetectionFormatError(f"{file}: its crs or its features are none of GeoJSON") from None
        report = _Records(file, problems)._report
        rows: dict[str, list[tuple[int, str, float, NDArray[np.float64]]]] = {}
        for number, feature in enumerate(features):
            try:
                properties = feature["properties"]
                image_id, name = str(properties["image"]), str(properties["class"])
                if classes is not None and name not in classes:
                    raise ValueError(f"unknown class {name!r}")
                if image_id not in images:
                    raise ValueError(f"no image {image_id} in {img_dir}")
                points = _ring(feature["geometry"])
                rows.setdefault(image_id, []).append((number, name, _score(properties["score"]), points))
            except RECORD_ERRORS as error:
                report(number, error)
        for image_id, own in rows.items():
            if image_id not in references:
                references[image_id] = read_georeference(images[image_id])
            if references[image_id] is None:
                raise DotaError(f"{images[image_id]}: not georeferenced, so {file} cannot be put onto its pixels")
            pixels = _pixels(references[image_id], np.concatenate([points for *_, points in own]), system)
            bounds = np.cumsum([len(points) for *_, points in own])[:-1]
            for (number, name, score, _), points in zip(own, np.split(pixels, bounds), strict=True):
                try:
                    corners, _ = corners_of(points)
                except ValueError as error:  # too few points, or outside the domain of the image's projection
                    report(number, error)
                else:
                    found.setdefault(name, _Found()).add(image_id, score, corners)
    result = {name: one.done() for name, one in found.items()}
    return result if classes is None else {name: result[name] for name in classes if name in result}


def _geojson_files(folder: Path) -> list[Path]:
    """The GeoJSON files of a folder, sorted; not hidden ones (``._a.geojson``, as macOS leaves them)."""
    found = (one for one in folder.iterdir() if not one.name.startswith("."))
    return sorted(one for one in found if one.suffix.lower() == ".geojson")


def _ring(geometry: Mapping[str, Any]) -> NDArray[np.float64]:
    """The outline (n, 2) of a polygon, or of one that was cut at 180 degrees of longitude."""
    kind, coordinates = geometry["type"], geometry["coordinates"]
    if kind == "Polygon":
        rings = [coordinates[0]]
    elif kind == "MultiPolygon":
        rings = [polygon[0] for polygon in coordinates]
    else:
        raise ValueError(f"geometry {kind!r}, expected Polygon")
    points = np.concatenate([_numbers([value for point in ring for value in point[:2]], None) for ring in rings])
    points = points.reshape(-1, 2)
    if len(rings) > 1:  # the parts of both sides of the line, side by side again
        points[:, 0] = np.where(points[:, 0] < 0, points[:, 0] + 360, points[:, 0])
    return points


def _pixels(reference: Any, points: NDArray[np.float64], system: str | None) -> NDArray[np.float64]:
    """Pixel coordinates (n, 2) of points in longitude and latitude, or in the coordinate system that is named.

    Points of an image whose coordinate system is not known are in that system.
    """
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    from fdam_rotate.dota.rasters.georeference import transform_points

    try:
        source = CRS.from_user_input(system or "OGC:CRS84")
    except CRSError as error:
        raise DetectionFormatError(f"the coordinate system {system!r} is not known: {error}") from None
    if reference.crs is not None and source != reference.crs:
        points = transform_points(source, reference.crs, points)
    pixels: NDArray[np.float64] = reference.pixels(points)
    return pixels
