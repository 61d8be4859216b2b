"""fdam_rotate: FDAM-modulated LSKNet for oriented object detection, as an MMRotate 0.x extension.

Importing this package loads nothing heavy; import what you need:

- ``fdam_rotate.dota``: labels, geometry, patches, merging, scoring, submissions (NumPy and shapely only);
- ``fdam_rotate.models``: backbones and necks; importing it registers them with MMRotate;
- ``fdam_rotate.datasets``: MMRotate data sets; ``fdam_rotate.apis``: training, inference, checkpoints.
"""

__version__ = "0.1.0"
