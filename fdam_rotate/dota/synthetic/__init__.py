"""Generated aerial scenes in DOTA's layout, for trials, demonstrations and tests that need no download."""

from fdam_rotate.dota.synthetic.dataset import SizeRange, SyntheticSummary, parse_size, write_synthetic
from fdam_rotate.dota.synthetic.scene import CLASSES, GSD_RANGE, Scene, generate_scene

__all__ = [
    "CLASSES", "GSD_RANGE", "Scene", "SizeRange", "SyntheticSummary", "generate_scene", "parse_size", "write_synthetic",
]  # fmt: skip
