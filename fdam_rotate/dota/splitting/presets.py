"""The usual splits of DOTA by name: ``dota-VERSION-SCALE-SET``, for instance ``dota-v1.0-ss-train``.

A preset stands for the options of ``data_prep/split.py`` that MMRotate's ``split_configs`` set for DOTA-v1.0: windows
of 1024; ``ss`` one scale with overlap 200, ``ms`` the rates 0.5, 1.0 and 1.5 with overlap 500; padding in the mean
colour of ImageNet. DOTA-v1.5 and v2.0 are split alike; they have their own class list and folders.
"""

from __future__ import annotations

from typing import Any

__all__ = ["MEAN_COLOUR", "PRESETS"]

#: ImageNet's mean colour (blue, green, red): next to nothing to a network that normalises by it. Black is not.
MEAN_COLOUR = (104, 116, 124)

_ROOTS = {"v1.0": "DOTA", "v1.5": "DOTA-v1.5", "v2.0": "DOTA-v2.0"}
_SCALES = {
    "ss": {"gaps": [200], "rates": [1.0]},
    "ms": {"gaps": [500], "rates": [0.5, 1.0, 1.5]},
}
_SETS = {"train": ["train"], "val": ["val"], "trainval": ["train", "val"], "test": ["test"]}


def _preset(version: str, scale: str, name: str) -> dict[str, Any]:
    root = f"data/{_ROOTS[version]}"
    return {
        "img_dirs": [f"{root}/{folder}/images" for folder in _SETS[name]],
        "ann_dirs": None if name == "test" else [f"{root}/{folder}/labelTxt" for folder in _SETS[name]],
        "out": f"data/split_{scale}_{_ROOTS[version].lower()}/{name}",
        "sizes": [1024],
        **_SCALES[scale],
        "img_rate_thr": 0.6,
        "iof_thr": 0.7,
        "padding_value": list(MEAN_COLOUR),
        "classes": version,
        # the published label files hold such polygons
        "accept": ["zero-area", "self-crossing"],
    }


#: Options by preset, under the names that ``--base-json`` takes.
PRESETS: dict[str, dict[str, Any]] = {
    f"dota-{version}-{scale}-{name}": _preset(version, scale, name)
    for version in _ROOTS
    for scale in _SCALES
    for name in _SETS
}
