"""MMRotate data sets; importing this registers them."""

from fdam_rotate.datasets.dota import DOTAPatchDataset

__all__ = ["DOTAPatchDataset"]
