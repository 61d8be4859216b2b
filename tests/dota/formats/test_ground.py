"""Every kind of place that an image may have: coordinates against hand arithmetic, files opened again by GDAL."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely

from fdam_rotate.dota import Detections
from fdam_rotate.dota.errors import DotaError, GeoReferenceError
from fdam_rotate.dota.formats.geojson import write_geojson
from fdam_rotate.dota.formats.geopackage import write_geopackage
from fdam_rotate.dota.formats.ground import place_boxes
from fdam_rotate.dota.formats.predictions import read_predictions
from fdam_rotate.dota.layout import SourceImage
from fdam_rotate.dota.predicting.model import Found
from fdam_rotate.dota.predicting.predict import predict_images
from fdam_rotate.dota.rasters.georeference import GeoReference, read_georeference, transform_points
from fdam_rotate.dota.splitting.options import SplitOptions

rasterio = pytest.importorskip("rasterio")
pyogrio = pytest.importorskip("pyogrio")
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
CRS, Affine = rasterio.crs.CRS, rasterio.Affine

SITE = """ENGCRS["building site",EDATUM["its corner"],CS[Cartesian,2],AXIS["x",east,ORDER[1]],AXIS["y",north,ORDER[2]],
LENGTHUNIT["metre",1]]"""
METEOSAT = "+proj=geos +h=35785831 +lon_0=0 +sweep=y +a=6378169 +b=6356584 +units=m"
MARS = """GEOGCS["Mars 2000",DATUM["D_Mars_2000",SPHEROID["Mars_2000_IAU_IAG",3396190,169.894447]],
PRIMEM["Reference_Meridian",0],UNIT["Degree",0.0174532925199433]]"""


def picture(path: Path, **profile: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    layout = {"driver": "GTiff", "width": 200, "height": 100, "count": 3, "dtype": "uint8"} | profile
    gcps = layout.pop("gcps", None)
    with rasterio.open(path, "w", **layout) as file:
        file.write(np.random.default_rng(0).integers(40, 200, size=(3, 100, 200), dtype=np.uint8))
        if gcps:
            file.gcps = gcps
    return path


def boxes(*polys: list[float], image_id: str = "a") -> dict[str, Detections]:
    rows = np.array(polys, float).reshape(-1, 8)
    return {"ship": Detections((image_id,), np.zeros(len(rows), np.intp), np.linspace(0.9, 0.5, len(rows)), rows)}


def rectangle(x: float, y: float, width: float, height: float) -> list[float]:
    return [x, y, x + width, y, x + width, y + height, x, y + height]


class OneBox:
    """A model that finds one upright box of 40 x 10 in the middle of each window."""

    classes = ("ship",)

    def __init__(self) -> None:
        self.identity = {"checkpoint": "0"}

    def prepare(self, threads=None) -> None:
        pass

    def detect(self, windows):
        one = Found(np.array([[32.0, 32.0, 40.0, 10.0, 0.0]]), np.array([0.75]), np.array([0]))
        return [one for _ in windows]


def predict(images: list[Path], out: Path, **settings: Any):
    sources = [SourceImage(path.stem, path, None) for path in images]
    return predict_images(OneBox(), sources, out, SplitOptions(sizes=(64,), gaps=(16,)), **settings)


def features(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text())["features"]


def test_task1_is_written_whatever_cannot_be_georeferenced_and_each_is_named(tmp_path: Path) -> None:
    place = {"transform": Affine(1, 0, 1000, 0, -1, 2000)}
    images = [
        picture(tmp_path / "ok.tif", crs="EPSG:32633", transform=Affine(0.3, 0, 400_000, 0, -0.3, 5_800_000)),
        picture(tmp_path / "site.tif", crs=CRS.from_wkt(SITE), **place),
        picture(tmp_path / "mars.tif", crs=CRS.from_wkt(MARS), transform=Affine(1e-5, 0, 10, 0, -1e-5, 10)),
        picture(tmp_path / "space.tif", crs=CRS.from_proj4(METEOSAT), transform=Affine(9, 0, 5.4e6, 0, -9, 5.4e6)),
        picture(tmp_path / "crs-only.tif", crs="EPSG:32633"),
        picture(tmp_path / "no-crs.tif", **place),
        picture(tmp_path / "plain.tif"),
    ]  # fmt: skip
    summary = predict(images, tmp_path / "out")
    names = {line.split()[0] for line in (tmp_path / "out/Task1_ship.txt").read_text().splitlines()}
    assert names == {path.stem for path in images}
    assert summary.failures == []
    assert sorted(path.name for path in (tmp_path / "out/geojson").iterdir()) == ["ok.geojson", "space.geojson"]
    assert features(tmp_path / "out/geojson/space.geojson") == []
    notes = dict(note.split(".tif: ", 1) for note in summary.notes)
    assert {Path(name).name for name in notes} == {"site", "mars", "space", "crs-only", "no-crs"}
    said = {Path(name).name: text for name, text in notes.items()}
    assert said["site"].startswith("no GeoJSON: nothing leads from its coordinate system (building site) to longitude")
    assert "--keep-crs" in said["site"]
    assert said["mars"].startswith("no GeoJSON: nothing leads from")
    assert said["space"].startswith("8 detections have no longitude and latitude")
    assert said["crs-only"] == "no GeoJSON: names a coordinate system, but not where in it the image lies"
    assert said["no-crs"].startswith("no GeoJSON: no coordinate system is known")
    assert "--keep-crs" in said["no-crs"]


def test_keep_crs_needs_no_transformation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rasterio.warp, "transform", lambda *args: pytest.fail("transformed"))
    place = {"transform": Affine(0.5, 0, 1000, 0, -0.5, 2000)}
    images = [picture(tmp_path / "site.tif", crs=CRS.from_wkt(SITE), **place), picture(tmp_path / "bare.tif", **place),
              picture(tmp_path / "utm.tif", crs="EPSG:32633", **place)]  # fmt: skip
    summary = predict(images, tmp_path / "out", keep_crs=True, gpkg=True)
    assert (summary.geojson, summary.notes) == (3, [])
    for path in images:
        # the first window's box: columns 12 to 52, rows 27 to 37
        expected = shapely.box(1000 + 6, 2000 - 18.5, 1000 + 26, 2000 - 13.5)
        for file in (f"geojson/{path.stem}.geojson", f"gpkg/{path.stem}.gpkg"):
            shapes = shapely.from_wkb(pyogrio.raw.read(tmp_path / "out" / file)[2])
            assert any(shape.equals(expected) for shape in shapes), file
    systems = {path.stem: json.loads((tmp_path / f"out/geojson/{path.stem}.geojson").read_text()).get("crs")
               for path in images}  # fmt: skip
    assert systems["bare"] is None
    assert systems["utm"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32633"
    assert "building site" in systems["site"]["properties"]["name"]
    assert "building site" in pyogrio.read_info(tmp_path / "out/gpkg/site.gpkg")["crs"]
    assert pyogrio.read_info(tmp_path / "out/gpkg/utm.gpkg")["crs"] == "EPSG:32633"


def test_files_open_in_gdal_with_equal_contents(tmp_path: Path) -> None:
    image = picture(tmp_path / "a.tif", crs="EPSG:32633", transform=Affine(0.3, 0, 400_000, 0, -0.3, 5_800_000))
    predict([image], tmp_path / "out", gpkg=True)
    predict([image], tmp_path / "again", gpkg=True)
    expected = features(tmp_path / "out/geojson/a.geojson")
    assert len(expected) == 8
    for name in ("geojson/a.geojson", "gpkg/a.gpkg"):
        info = pyogrio.read_info(tmp_path / "out" / name)
        assert (info["features"], info["crs"], info["geometry_type"]) == (8, "EPSG:4326", "Polygon")
        meta, _, geometry, columns = pyogrio.raw.read(tmp_path / "out" / name)
        fields = dict(zip(meta["fields"].tolist(), columns, strict=True))
        for k, feature in enumerate(expected):
            assert {key: fields[key][k] for key in feature["properties"]} == feature["properties"]
            assert shapely.from_wkb(geometry[k]).equals(shapely.Polygon(feature["geometry"]["coordinates"][0]))
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 3, 0, 1)])
def test_a_box_across_180_degrees_is_cut_into_two_polygons(order: tuple[int, ...], tmp_path: Path) -> None:
    """A pixel is 0.001 degrees; the image begins at 179.95 east, so column 50 is the line."""
    reference = GeoReference(CRS.from_epsg(4326), (1e-3, 0, 179.95, 0, -1e-3, 10))
    corners = np.array(rectangle(30, 10, 60, 20)).reshape(4, 2)[list(order)].ravel().tolist()
    west, east = rectangle(10, 10, 40, 5), rectangle(50, 60, 20, 5)  # both end at the line
    placed = place_boxes(boxes(corners, west, east), "a", reference)
    assert placed.left_out == 0
    crossing, before, after = placed.boxes
    assert sorted(shapely.Polygon(ring).bounds for ring in crossing.rings) == [
        pytest.approx((-180, 9.97, -179.96, 9.99)), pytest.approx((179.98, 9.97, 180, 9.99)),
    ]  # fmt: skip
    assert crossing.bearing == 90
    for box, bounds in ((before, (179.96, 9.985, 180, 9.99)), (after, (-180, 9.935, -179.98, 9.94))):
        assert len(box.rings) == 1
        assert shapely.Polygon(box.rings[0]).bounds == pytest.approx(bounds)
    for box in placed.boxes:
        for ring in box.rings:
            assert shapely.is_ccw(shapely.linearrings(ring))
            assert np.abs(ring[:, 0]).max() <= 180
    write_geojson(tmp_path / "a.geojson", boxes(corners, west, east), "a", reference)
    write_geopackage(tmp_path / "a.gpkg", placed)
    for name in ("a.geojson", "a.gpkg"):
        shapes = shapely.from_wkb(pyogrio.raw.read(tmp_path / name)[2])
        assert [len(shapely.get_parts(shape)) for shape in shapes] == [2, 1, 1]
        assert shapes[0].is_valid
    assert [f["geometry"]["type"] for f in features(tmp_path / "a.geojson")] == ["MultiPolygon", "Polygon", "Polygon"]


@pytest.mark.parametrize("west", [181, 541, -179, -539])
def test_an_image_that_counts_beyond_180_degrees(west: int) -> None:
    reference = GeoReference(CRS.from_epsg(4326), (1e-3, 0, west, 0, -1e-3, 10))
    (box,) = place_boxes(boxes(rectangle(0, 0, 10, 4)), "a", reference).boxes
    assert shapely.Polygon(box.rings[0]).bounds == pytest.approx((-179, 9.996, -178.99, 10))


@pytest.mark.parametrize("turn", [0, 25, 90, 160])
def test_the_bearing_right_across_180_degrees(turn: float) -> None:
    """At 60 degrees north a degree of longitude is half as long as one of latitude."""
    reference = GeoReference(CRS.from_epsg(4326), (2e-6, 0, 180 - 2e-4, 0, -1e-6, 60))
    angle = math.radians(turn)
    along, across = np.array([math.cos(angle), math.sin(angle)]), np.array([-math.sin(angle), math.cos(angle)])
    corners = [np.array([100, 50]) + 20 * a * along + 5 * b * across for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    (box,) = place_boxes(boxes(np.concatenate(corners).tolist()), "a", reference).boxes
    assert len(box.rings) == 2
    assert abs((box.bearing - (90 + turn) + 90) % 180 - 90) < 0.01


def test_a_box_round_a_pole_has_no_polygon() -> None:
    """The north pole lies at column 100, row 50 of a polar image; a box beside it has its place."""
    reference = GeoReference(CRS.from_epsg(3995), (1000, 0, -100_000, 0, -1000, 50_000))
    placed = place_boxes(boxes(rectangle(90, 40, 20, 20), rectangle(110, 40, 20, 5)), "a", reference)
    assert (placed.left_out, len(placed.boxes)) == (1, 1)


def test_points_outside_a_projection_cost_only_their_boxes() -> None:
    """Meteosat's disk: its middle is 0 E 0 N; the corner of the image sees space."""
    reference = GeoReference(CRS.from_proj4(METEOSAT), (3000, 0, -5.5e6, 0, -3000, 5.5e6))
    middle, space = rectangle(1833, 1833, 20, 10), rectangle(3, 3, 20, 10)
    placed = place_boxes(boxes(space, middle, space, middle, space), "a", reference)
    assert (placed.left_out, len(placed.boxes)) == (3, 2)
    assert [box.score for box in placed.boxes] == [0.8, 0.6]
    west, south, east, north = shapely.Polygon(placed.boxes[0].rings[0]).bounds
    assert max(abs(west), abs(south), abs(east), abs(north)) < 1


def test_a_point_that_has_a_place_keeps_it_beside_one_that_has_none() -> None:
    found = transform_points(CRS.from_proj4(METEOSAT), "OGC:CRS84", np.array([[0.0, 0.0], [5.4e6, 5.4e6]]))
    assert found[0].tolist() == pytest.approx([0, 0])
    assert np.isnan(found[1]).all()


def test_coordinates_beyond_all_measure_end_soon() -> None:
    """PROJ counts their turns round the Earth one by one, for hours."""
    points = np.array([[0.0, 0.0], [1e20, 0], [np.nan, 0], [np.inf, 1]])
    found = transform_points(CRS.from_epsg(3857), "OGC:CRS84", points)
    assert found[0].tolist() == pytest.approx([0, 0])
    assert np.isnan(found[1:]).all()


def gcps(function: Any, columns: list[int], rows: list[int]) -> list[Any]:
    points = [(column, row, *function(column, row)) for column in columns for row in rows]
    return [rasterio.control.GroundControlPoint(row=row, col=column, x=x, y=y) for column, row, x, y in points]


def test_ground_control_points(tmp_path: Path) -> None:
    """Four corners of an affine image place a point exactly; GDAL's polynomial of second order follows a curved one."""
    straight = gcps(lambda u, v: (10 + 1e-4 * u + 2e-5 * v, 50 - 1e-4 * v), [0, 200], [0, 100])
    curved = gcps(
        lambda u, v: (10 + 1e-4 * u + 1e-7 * u * u, 50 - 1e-4 * v + 1e-7 * u * v), [0, 100, 200], [0, 50, 100]
    )
    for name, points, expected in (
        ("straight", straight, (10 + 1e-4 * 60 + 2e-5 * 40, 50 - 1e-4 * 40)),
        ("curved", curved, (10 + 1e-4 * 60 + 1e-7 * 3600, 50 - 1e-4 * 40 + 1e-7 * 2400)),
    ):
        path = picture(tmp_path / f"{name}.tif", gcps=(points, CRS.from_epsg(4326)))
        reference = read_georeference(path)
        assert reference.crs == CRS.from_epsg(4326)
        assert reference.ground(np.array([[60.0, 40.0]]))[0] == pytest.approx(expected, abs=1e-8)
        assert reference.pixels(reference.ground(np.array([[60.0, 40.0]])))[0] == pytest.approx([60, 40], abs=1e-3)
    assert predict([path], tmp_path / "out").geojson == 1
    found = read_predictions(tmp_path / "out/geojson/curved.geojson", img_dir=tmp_path)["ship"]
    task1 = [line.split()[2:] for line in (tmp_path / "out/Task1_ship.txt").read_text().splitlines()]
    assert sorted(found.polys.mean(axis=1).tolist()) == pytest.approx(
        sorted(np.array(task1, float).mean(axis=1).tolist()), abs=0.01
    )


def test_control_points_a_pixel_apart_place_an_image(tmp_path: Path) -> None:
    corner = gcps(lambda u, v: (10 + u, 50.0 - v), [0, 1], [0, 1])
    reference = read_georeference(picture(tmp_path / "a.tif", gcps=(corner, CRS.from_epsg(4326))))
    assert reference.ground(np.array([[30.0, 20.0]]))[0] == pytest.approx([40, 30])
    three = read_georeference(picture(tmp_path / "b.tif", gcps=(corner[:3], CRS.from_epsg(4326))))
    assert three.ground(np.array([[30.0, 20.0]]))[0] == pytest.approx([40, 30])
    with pytest.raises(GeoReferenceError, match="2 ground control points"):
        read_georeference(picture(tmp_path / "c.tif", gcps=(corner[:2], CRS.from_epsg(4326))))


def test_control_points_that_do_not_place_an_image(tmp_path: Path) -> None:
    line = gcps(lambda u, v: (10 + u, 50.0), [0, 100, 200], [50])
    with pytest.raises(GeoReferenceError, match="in one line"):
        read_georeference(picture(tmp_path / "a.tif", gcps=(line, CRS.from_epsg(4326))))


def test_control_points_that_no_polynomial_fits(tmp_path: Path) -> None:
    """Ten ask for GDAL's third order, which two rows do not give; the run ends well, and says what has no map."""
    points = gcps(lambda u, v: (10 + 1e-4 * u, 50 - 1e-4 * v), [0, 50, 100, 150, 200], [0, 100])
    path = picture(tmp_path / "a.tif", gcps=(points, CRS.from_epsg(4326)))
    with pytest.raises(GeoReferenceError, match="its 10 ground control points do not place it"):
        read_georeference(path)
    done = predict([path], tmp_path / "out")
    assert (done.images, done.geojson) == (1, 0)
    assert [note.split(": ")[1] for note in done.notes] == ["no GeoJSON"]
    five = picture(tmp_path / "b.tif", gcps=(points[:5], CRS.from_epsg(4326)))
    assert read_georeference(five).ground(np.array([[100.0, 50.0]]))[0] == pytest.approx([10.01, 49.995])


@pytest.mark.parametrize(("name", "world"), [
    ("a.tif", "a.tfw"), ("a.png", "a.pgw"), ("a.jpg", "a.jgw"), ("b.jpeg", "b.jgw"), ("a.bmp", "a.wld"),
    ("a.png", "a.pngw"), ("a.JPG", "a.jgw"), ("a.TIF", "a.tfw"),
    ("a.jpg", "a.JGW"), ("a.tif", "a.TFW"), ("a.png", "a.WLD"),
])  # fmt: skip
def test_world_files(name: str, world: str, tmp_path: Path) -> None:
    """The six lines place the centre of the first pixel; the coordinate system stands in a .prj beside, or nowhere."""
    import cv2

    path = tmp_path / name
    if path.suffix.lower() == ".tif":
        picture(path)
    else:
        cv2.imwrite(str(path), np.random.default_rng(0).integers(40, 200, size=(100, 200, 3), dtype=np.uint8))
    assert read_georeference(path) is None
    (tmp_path / world).write_text("0.5\n0\n0\n-0.5\n400000.25\n5799999.75\n")
    reference = read_georeference(path)
    assert reference.crs is None
    assert reference.ground(np.array([[10.0, 20.0]])).tolist() == [[400_005, 5_799_990]]
    notes = predict([path], tmp_path / "out").notes
    assert [note.split(": ", 1)[1].split(";")[0] for note in notes] == ["no GeoJSON: no coordinate system is known"]
    assert predict([path], tmp_path / "kept", keep_crs=True).geojson == 1
    beside = path.with_suffix(".PRJ" if world.isupper() or world[2:].isupper() else ".prj")
    beside.write_text(CRS.from_epsg(32633).to_wkt())
    assert read_georeference(path).crs == CRS.from_epsg(32633)
    assert predict([path], tmp_path / "placed").geojson == 1
    beside.write_text("anywhere")
    with pytest.raises(GeoReferenceError, match="not a coordinate system"):
        read_georeference(path)


@pytest.mark.parametrize("by", ["transform", "control points"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_tiff_is_placed_as_it_is_shown(orientation: int, by: str, tmp_path: Path) -> None:
    """A bright pixel of the image as shown keeps its place on the ground, which GDAL gives for the stored one."""
    import struct

    from fdam_rotate.dota.rasters.images import read_image

    if by == "transform":
        path = picture(tmp_path / "a.tif", crs="EPSG:32633", transform=Affine(2, 0, 1000, 0, -2, 5000))
    else:
        corners = gcps(lambda u, v: (1000.0 + 2 * u, 5000.0 - 2 * v), [0, 200], [0, 100])
        path = picture(tmp_path / "a.tif", gcps=(corners, CRS.from_epsg(32633)))
    with rasterio.open(path, "r+") as file:
        file.write(np.full((3, 1, 1), 255, np.uint8), window=rasterio.windows.Window(30, 70, 1, 1))
    if orientation > 1:  # GDAL cannot write the tag: put it into the directory in place of the planar configuration (1)
        data = bytearray(path.read_bytes())
        at = data.index(struct.pack("<HHI", 284, 3, 1))
        data[at : at + 12] = struct.pack("<HHIHH", 274, 3, 1, orientation, 0)
        entries = struct.unpack_from("<H", data, struct.unpack_from("<I", data, 4)[0])[0]
        start = struct.unpack_from("<I", data, 4)[0] + 2
        rows = sorted(bytes(data[start + 12 * k : start + 12 * k + 12]) for k in range(entries))
        rows.sort(key=lambda row: struct.unpack_from("<H", row)[0])
        data[start : start + 12 * entries] = b"".join(rows)
        path.write_bytes(data)
    shown = read_image(path)[0]
    ((row, column),) = np.argwhere(shown[..., 0] == 255)
    reference = read_georeference(path)
    ground = reference.ground(np.array([[column + 0.5, row + 0.5]]))
    assert ground[0].tolist() == pytest.approx([1000 + 2 * 30.5, 5000 - 2 * 70.5], abs=1e-6)


def test_a_file_of_rational_polynomials_says_what_to_do(tmp_path: Path) -> None:
    rpc = rasterio.rpc.RPC(
        height_off=0, height_scale=500, lat_off=0, lat_scale=1, long_off=0, long_scale=1, line_off=50, line_scale=50,
        samp_off=100, samp_scale=100, line_num_coeff=[0.0] * 20, line_den_coeff=[1.0] + [0.0] * 19,
        samp_num_coeff=[0.0] * 20, samp_den_coeff=[1.0] + [0.0] * 19,
    )  # fmt: skip
    path = picture(tmp_path / "a.tif")
    with rasterio.open(path, "r+") as file:
        file.rpcs = rpc
    with pytest.raises(GeoReferenceError, match="gdalwarp -rpc"):
        read_georeference(path)


def test_without_pyogrio_gpkg_ends_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyogrio", None)
    with pytest.raises(DotaError, match="pip install pyogrio"):
        predict([picture(tmp_path / "a.tif")], tmp_path / "out", gpkg=True)
    assert not (tmp_path / "out").exists()


def metres(epsg: int, transform: tuple[float, ...], steps: list[tuple[float, float]]) -> np.ndarray:
    start = np.zeros((len(steps), 2))
    found = GeoReference(CRS.from_epsg(epsg), transform).metres(start, np.array(steps, float))
    assert found is not None
    return found


def test_lengths_are_those_on_the_ground() -> None:
    # UTM: the map is 0.9996 of the ground on the middle meridian
    np.testing.assert_allclose(
        metres(32633, (0.5, 0, 500_000, 0, -0.5, 4_000_000), [(100, 0), (0, 100), (60, 80)]), 50 / 0.9996, rtol=1e-6
    )
    # Web Mercator at 60 degrees: the map's metres are sqrt(1 - e2 sin2) / cos of those on the ground, from west to east
    north = 6378137 * np.log(np.tan(np.pi / 4 + np.radians(60) / 2))
    (east,) = metres(3857, (1, 0, 1_000_000, 0, -1, north), [(100, 0)])
    assert abs(east - 100 * 0.5 / np.sqrt(1 - 0.00669437999014 * 0.75)) < 1e-3
    # a degree of latitude at the equator is 110.574 km, of longitude 111.320 km
    np.testing.assert_allclose(
        metres(4326, (1e-3, 0, 20, 0, -1e-3, 0), [(0, 1), (1, 0)]), [110.574, 111.320], rtol=1e-5
    )
    # across 180 degrees
    np.testing.assert_allclose(metres(4326, (1e-3, 0, 179.9995, 0, -1e-3, 0), [(1, 0)]), 111.320, rtol=1e-5)


def test_lengths_without_longitude_and_latitude() -> None:
    for crs in (CRS.from_wkt(MARS), CRS.from_wkt(SITE), None):
        assert GeoReference(crs, (2, 0, 0, 0, -2, 0)).metres(np.zeros((1, 2)), np.ones((1, 2))) is None
