"""Numbers with their nouns, as they stand in what commands print."""

from __future__ import annotations

import pytest

from fdam_rotate.dota.words import counted


@pytest.mark.parametrize(("words", "text"), [
    ((1, "image"), "1 image"), ((0, "image"), "0 images"), ((1234, "patch"), "1,234 patches"),
    ((2, "class"), "2 classes"),
    ((2, "box"), "2 boxes"), ((1, "GeoJSON file"), "1 GeoJSON file"),
    ((3, "image id", "without label"), "3 image ids without label"),
    ((1, "patch", "is here|are here"), "1 patch is here"), ((2, "patch", "is here|are here"), "2 patches are here"),
])  # fmt: skip
def test_one_and_several(words: tuple, text: str) -> None:
    assert counted(*words) == text
