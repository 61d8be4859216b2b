"""Pictures are written all or nothing, and names are shown as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from fdam_rotate.dota.figures import figure_file


def test_dollars_in_a_name_are_no_formula(tmp_path: Path) -> None:
    with figure_file(tmp_path / "a.png", (2, 1)) as figure:
        figure.text(0, 0, r"a$\b_$")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_half_a_picture_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(KeyError), figure_file(tmp_path / "a.png", (2, 1)):
        raise KeyError
    assert not list(tmp_path.iterdir())
