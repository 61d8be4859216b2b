"""The factor by which a training image is resized."""

from __future__ import annotations

import numpy as np
import pytest

from fdam_rotate.datasets import DrawScale


def test_factors_fill_the_range():
    np.random.seed(0)  # noqa: NPY002 - what pipelines draw from
    step = DrawScale(0.5, 2.5)
    drawn = np.array([step({"img": 1})["scale_factor"] for _ in range(500)])
    assert ((drawn >= 0.5) & (drawn <= 2.5)).all()
    assert drawn.min() < 0.52
    assert drawn.max() > 2.48
    assert abs(drawn.mean() - 1.5) < 0.1
    assert step({"img": 1})["img"] == 1
    assert DrawScale(0.5, 0.5)({})["scale_factor"] == 0.5
    assert repr(step) == "DrawScale(low=0.5, high=2.5)"


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1), (2, 1)])
def test_impossible_ranges_are_refused(low, high):
    with pytest.raises(ValueError, match=f"expected 0 < low <= high, got low={low} and high={high}"):
        DrawScale(low, high)
