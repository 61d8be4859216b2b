"""MMRotate data sets and pipeline steps; importing this registers them."""

from fdam_rotate.datasets.dota import DOTAPatchDataset
from fdam_rotate.datasets.hrsc import HRSC2016Dataset
from fdam_rotate.datasets.pipelines import DrawScale, LoadAnyImage
from fdam_rotate.datasets.views import FlipTurnAug

__all__ = ["DOTAPatchDataset", "DrawScale", "FlipTurnAug", "HRSC2016Dataset", "LoadAnyImage"]
