"""MMRotate data sets; importing this registers them."""

from fdam_rotate.datasets.dota import DOTAPatchDataset
from fdam_rotate.datasets.hrsc import HRSC2016Dataset

__all__ = ["DOTAPatchDataset", "HRSC2016Dataset"]
