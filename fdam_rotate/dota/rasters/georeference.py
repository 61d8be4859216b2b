"""Where the pixels of an image lie on the ground.

A pixel coordinate is continuous: (0, 0) is the upper left corner of the upper left pixel of the image as shown. It is
mapped to the ground by the image's affine transform (its own, or that of a world file beside it), or by the polynomial
that fits its ground control points (GDAL's: of first order for 3 to 5 points, second to 9, third from 10 on).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.errors import GeoReferenceError, ImageReadError
from fdam_rotate.dota.rasters.images import read_header
from fdam_rotate.dota.rasters.orientation import stored_affine

__all__ = ["GeoReference", "read_georeference", "transform_points"]

# Longitude and latitude in this order, WGS 84.
_WGS84 = "OGC:CRS84"

# Larger coordinates are no place on Earth; PROJ would count their turns round it one by one.
_FARTHEST = 1e12

# The WGS 84 ellipsoid: its equator's radius in metres, and the square of its eccentricity.
_RADIUS, _ECCENTRICITY_2 = 6_378_137.0, 0.00669437999014

# Of Newton's method; each doubles the number of right digits.
_STEPS = 5

# Kinds of file whose place is within them; of others, only files beside them hold it.
_WITH_PLACE = (".tif", ".tiff", ".jp2", ".j2k", ".vrt")


@dataclass(frozen=True)
class GeoReference:
    """Where the pixels of an image lie.

    Attributes:
        crs: rasterio's coordinate reference system; None if none is known (a world file names none).
        transform: (6,) a b c d e f; x = a * column + b * row + c, y = d * column + e * row + f in units of ``crs``.
        control: (N, 4) column, row, x, y of ground control points, which then stand in place of ``transform``.
    """

    crs: Any
    transform: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    control: tuple[tuple[float, ...], ...] = ()

    @property
    def is_geographic(self) -> bool:
        """Whether x and y are degrees of longitude and latitude."""
        return self.crs is not None and bool(self.crs.is_geographic)

    def ground(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pixel points (N, 2) as column and row, to (N, 2) x and y in ``crs``."""
        column, row = points.T
        if self.control:
            return np.stack(_control_transformer(self.control).xy(row, column, offset="ul"), axis=1)
        a, b, c, d, e, f = self.transform
        return np.stack([a * column + b * row + c, d * column + e * row + f], axis=1)

    def pixels(self, ground: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points (N, 2) in ``crs`` to pixel points (N, 2), column and row."""
        if self.control:
            return self._pixels_by_steps(ground)
        a, b, c, d, e, f = self.transform
        found: NDArray[np.float64] = np.linalg.solve(np.array([[a, b], [d, e]]), (ground - (c, f)).T).T
        return found

    def _pixels_by_steps(self, ground: NDArray[np.float64]) -> NDArray[np.float64]:
        """Newton's method: GDAL fits the way back on its own, and is half a pixel off where a polynomial bends."""
        rows, columns = _control_transformer(self.control).rowcol(*ground.T, op=lambda value: value)
        points: NDArray[np.float64] = np.stack([columns, rows], axis=1)
        for _ in range(_STEPS):
            here = self.ground(points)
            slopes = np.stack([self.ground(points + step) - here for step in np.eye(2)], axis=2)
            points += np.linalg.solve(slopes, (ground - here)[..., None])[..., 0]
        return points

    def lon_lat(self, ground: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points (N, 2) in ``crs`` to (N, 2) longitude and latitude in degrees, WGS 84; NaN where there is no such.

        Raises:
            GeoReferenceError: no point of ``crs`` has a longitude and latitude.
        """
        if self.crs is None:
            raise GeoReferenceError("no coordinate system is known")
        return transform_points(self.crs, _WGS84, ground)

    def metres(self, start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Length on the ground, in metres, from each pixel point (N, 2) to another, (N,); NaN where there is none.

        Lengths of some kilometres at most are meant. They are those on the ellipsoid WGS 84: a map's own metres are
        half as long at 60 degrees north in Web Mercator.

        Returns:
            None if no point of the image has a longitude and latitude.
        """
        try:
            ends = [self.lon_lat(self.ground(points)).T for points in (start, end)]
        except GeoReferenceError:
            return None
        lon, lat = np.stack(ends, axis=1)
        phi = np.radians(lat.mean(axis=0))
        squeezed = 1 - _ECCENTRICITY_2 * np.sin(phi) ** 2
        turn = np.radians((np.diff(lon, axis=0)[0] + 180) % 360 - 180)
        east = _RADIUS / np.sqrt(squeezed) * np.cos(phi) * turn
        north = _RADIUS * (1 - _ECCENTRICITY_2) / squeezed**1.5 * np.radians(np.diff(lat, axis=0)[0])
        length: NDArray[np.float64] = np.hypot(east, north)
        return length


def transform_points(source: Any, target: Any, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (N, 2) of one coordinate system in another; NaN where a point is outside the domain of either.

    Raises:
        GeoReferenceError: nothing leads from one system to the other (a building site's, another planet's).
    """
    from rasterio._err import CPLE_BaseError, CPLE_NotSupportedError
    from rasterio.errors import CRSError
    from rasterio.warp import transform

    out = np.full(points.shape, np.nan)
    waiting = [np.flatnonzero((np.abs(points) < _FARTHEST).all(axis=1))]
    while waiting:
        part = waiting.pop()
        if not len(part):
            continue
        try:
            out[part] = np.stack(transform(source, target, *points[part].T), axis=1)
        except (CPLE_NotSupportedError, CRSError):
            raise GeoReferenceError(f"nothing leads from {_name_of(source)} to {_name_of(target)}") from None
        except CPLE_BaseError:  # one point without an answer spoils the call: the halves are tried on their own
            if len(part) > 1:
                waiting += [part[: len(part) // 2], part[len(part) // 2 :]]
    out[~np.isfinite(out).all(axis=1)] = np.nan
    return out


def _name_of(system: Any) -> str:
    if system == _WGS84:
        return "longitude and latitude"
    quoted = str(system.to_wkt()).split('"')
    return f"its coordinate system ({quoted[1]})" if len(quoted) > 1 else "its coordinate system"


def read_georeference(path: str | Path) -> GeoReference | None:
    """Where an image lies; None if neither it nor a file beside it says anything of that, or it cannot be read.

    Beside it may lie a world file (``.tfw``, ``.jgw``, ``.pgw``, ``.wld``, ...), a ``.prj`` file that names the
    coordinate system, and GDAL's ``.aux.xml``.

    Raises:
        GeoReferenceError: it says something, but not where its pixels lie.
    """
    path = Path(path)
    world = next((file for file in _world_files(path) if file.is_file()), None)
    if (
        path.suffix.lower() not in _WITH_PLACE
        and world is None
        and not path.with_name(f"{path.name}.aux.xml").is_file()
    ):
        return None
    from rasterio.errors import RasterioError

    from fdam_rotate.dota.rasters.windowed import open_dataset

    try:
        header = read_header(path)
        with open_dataset(path, side_files=True) as dataset:
            turn = stored_affine(header.orientation, dataset.width, dataset.height)
            points, points_crs = dataset.gcps
            crs = dataset.crs if dataset.crs is not None else points_crs
            crs = crs if crs is not None else _prj_crs(path)
            if not dataset.transform.is_identity:
                stored = np.array(dataset.transform).reshape(3, 3)
                if not np.isfinite(stored).all() or np.linalg.matrix_rank(stored[:2, :2]) < 2:
                    raise GeoReferenceError(f"{path}: its transformation puts all its pixels on one line or point")
                return GeoReference(crs, tuple((stored @ turn)[:2].ravel().tolist()))
            if points:
                return GeoReference(crs, control=_control(path, points, np.linalg.inv(turn)))
            if dataset.rpcs is not None:
                raise GeoReferenceError(
                    f"{path}: only rational polynomials (RPC) place it, which need the ground's height: rectify it "
                    "first (gdalwarp -rpc)"
                )
    except (ImageReadError, OSError, RasterioError):
        return None
    if world is not None:
        raise GeoReferenceError(f"{path}: {world.name} is no world file (six numbers, one on each line)")
    if crs is not None:
        raise GeoReferenceError(f"{path}: names a coordinate system, but not where in it the image lies")
    return None


def _world_files(path: Path) -> list[Path]:
    """Names that a world file of ``path`` may have; GDAL takes those in small and in capital letters."""
    kind = path.suffix[1:].lower()
    endings = (f"{kind[0]}{kind[-1]}w", f"{kind}w", "wld")
    return [path.with_suffix(f".{form}") for ending in endings for form in (ending, ending.upper())]


def _prj_crs(path: Path) -> Any:
    """The coordinate system that a ``.prj`` file beside the image names, or None."""
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    file = next((one for one in (path.with_suffix(".prj"), path.with_suffix(".PRJ")) if one.is_file()), None)
    if file is None:
        return None
    try:
        return CRS.from_wkt(file.read_text(encoding="utf-8", errors="replace").strip())
    except CRSError:
        raise GeoReferenceError(f"{file}: not a coordinate system (WKT)") from None


def _control(path: Path, points: Sequence[Any], shown: NDArray[np.float64]) -> tuple[tuple[float, ...], ...]:
    """Ground control points as `GeoReference` keeps them; ``shown`` (3, 3) takes stored pixels to those shown."""
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import RasterioError

    columns_rows = np.array([[point.col, point.row, 1.0] for point in points]) @ shown.T
    control = tuple(
        (float(column), float(row), float(point.x), float(point.y))
        for (column, row, _), point in zip(columns_rows, points, strict=True)
    )
    spread = np.array(control)[:, :2] - np.mean(np.array(control)[:, :2], axis=0)
    if len(control) < 3 or np.linalg.matrix_rank(spread, tol=1e-6) < 2 or not math.isfinite(float(np.sum(control))):
        raise GeoReferenceError(f"{path}: {len(control)} ground control points, all in one line, do not place it")
    try:
        _control_transformer(control).xy([0], [0], offset="ul")
    except (CPLE_BaseError, RasterioError):
        raise GeoReferenceError(
            f"{path}: its {len(control)} ground control points do not place it: some are one point, or they lie in too "
            "few rows or columns for the polynomial of their number"
        ) from None
    return control


def _control_transformer(control: tuple[tuple[float, ...], ...]) -> Any:
    from rasterio.control import GroundControlPoint
    from rasterio.transform import GCPTransformer

    return GCPTransformer([GroundControlPoint(row=row, col=column, x=x, y=y) for column, row, x, y in control])
