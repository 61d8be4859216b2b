"""GeoJSON against hand arithmetic and the closed form of the Mercator projection."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from fdam_rotate.dota import Detections
from fdam_rotate.dota.formats.geojson import write_geojson
from fdam_rotate.dota.rasters.georeference import GeoReference, read_georeference

rasterio = pytest.importorskip("rasterio")
RADIUS = 6378137.0  # of EPSG:3857


def detections(polys, scores, image_ids=("scene",), image=None) -> dict[str, Detections]:
    polys = np.array(polys, float).reshape(-1, 8)
    rows = np.zeros(len(polys), np.intp) if image is None else np.array(image, np.intp)
    return {"ship": Detections(tuple(image_ids), rows, np.array(scores, float), polys)}


def geotiff(path, crs, transform):
    with rasterio.open(
        path, "w", driver="GTiff", width=200, height=100, count=3, dtype="uint8", crs=crs, transform=transform
    ) as dataset:
        dataset.write(np.zeros((3, 100, 200), np.uint8))
    return path


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_corners_lie_where_the_mercator_formula_says(tmp_path):
    # half a metre a pixel, upper left corner at x 500 km, y 6 000 km
    image = geotiff(tmp_path / "scene.tif", "EPSG:3857", rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 6_000_000))
    reference = read_georeference(image)
    poly = [10, 20, 60, 20, 60, 40.5, 10, 40.5]  # clockwise in the picture (y down)
    assert write_geojson(tmp_path / "o" / "scene.geojson", detections([poly], [0.75]), "scene", reference) == 1
    (feature,) = load(tmp_path / "o" / "scene.geojson")["features"]
    (ring,) = feature["geometry"]["coordinates"]
    assert ring[0] == ring[-1]
    assert len(ring) == 5
    expected = []
    for column, row in ((10, 20), (10, 40.5), (60, 40.5), (60, 20)):  # counter-clockwise on the map (y up)
        x, y = 500_000 + 0.5 * column, 6_000_000 - 0.5 * row
        expected.append([math.degrees(x / RADIUS), math.degrees(2 * math.atan(math.exp(y / RADIUS)) - math.pi / 2)])
    pixel = math.degrees(0.5 / RADIUS)
    assert np.abs(np.array(ring[:4]) - expected).max() < 0.01 * pixel
    assert feature["properties"] == {"image": "scene", "class": "ship", "score": 0.75, "angle_deg": 90.0}


def test_keep_crs_writes_the_images_own_coordinates_and_names_them(tmp_path):
    image = geotiff(tmp_path / "scene.tif", "EPSG:32633", rasterio.Affine(0.3, 0, 400_000, 0, -0.3, 5_800_000))
    target = tmp_path / "scene.geojson"
    write_geojson(
        target, detections([[0, 0, 10, 0, 10, 5, 0, 5]], [0.5]), "scene", read_georeference(image), keep_crs=True
    )
    found = load(target)
    assert found["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32633"
    (ring,) = found["features"][0]["geometry"]["coordinates"]
    assert ring == [[400000, 5800000], [400000, 5799998.5], [400003, 5799998.5], [400003, 5800000], [400000, 5800000]]
    write_geojson(target, {}, "scene", read_georeference(image))
    assert "crs" not in load(target), "RFC 7946 has no crs member: coordinates are longitude and latitude"


@pytest.mark.parametrize(("turn", "bearing"), [(0, 90), (30, 120), (90, 0), (135, 45)])
def test_the_bearing_of_the_long_side_is_clockwise_from_north(tmp_path, turn, bearing):
    # at 60 degrees north a degree of longitude is half as long as one of latitude; pixels of equal size on the ground
    reference = GeoReference(rasterio.crs.CRS.from_epsg(4326), (2e-6, 0, 10, 0, -1e-6, 60))
    angle = math.radians(turn)  # clockwise in the picture, from the x axis
    along, across = np.array([math.cos(angle), math.sin(angle)]), np.array([-math.sin(angle), math.cos(angle)])
    corners = [20 * a * along + 5 * b * across for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    for order in (corners, corners[1:] + corners[:1], corners[::-1]):
        write_geojson(tmp_path / "a.geojson", detections([np.concatenate(order)], [1]), "scene", reference)
        (feature,) = load(tmp_path / "a.geojson")["features"]
        difference = (feature["properties"]["angle_deg"] - bearing + 90) % 180 - 90
        assert abs(difference) < 0.01


def test_only_the_images_own_detections_best_first(tmp_path):
    reference = GeoReference(rasterio.crs.CRS.from_epsg(4326), (1e-5, 0, 0, 0, -1e-5, 0))
    box = [0, 0, 2, 0, 2, 1, 0, 1]
    found = detections([box] * 3, [0.2, 0.9, 0.4], ("other", "scene"), [1, 0, 1])
    assert write_geojson(tmp_path / "a.geojson", found, "scene", reference) == 2
    assert [f["properties"]["score"] for f in load(tmp_path / "a.geojson")["features"]] == [0.4, 0.2]
    # a class without detections on this image before one with some
    elsewhere = detections([box], [0.5], ("other",), [0])
    both = {"harbor": next(iter(elsewhere.values())), **found}
    assert write_geojson(tmp_path / "b.geojson", both, "scene", reference) == 2
    assert write_geojson(tmp_path / "a.geojson", found, "nothing", reference) == 0
    assert load(tmp_path / "a.geojson")["features"] == []


def test_images_without_a_place_have_no_reference(tmp_path):
    plain = tmp_path / "plain.tif"
    with rasterio.open(plain, "w", driver="GTiff", width=2, height=2, count=1, dtype="uint8") as dataset:
        dataset.write(np.zeros((1, 2, 2), np.uint8))
    (tmp_path / "photo.png").write_bytes(b"never opened")
    (tmp_path / "broken.tif").write_bytes(b"II*\0 broken")
    for name in ("plain.tif", "photo.png", "broken.tif"):
        assert read_georeference(tmp_path / name) is None
