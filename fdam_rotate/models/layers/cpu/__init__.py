"""FDAM's arithmetic in C++ for the CPU: FreqScale and AttInv's gate with their gradients, float32 and float64.

Written as operations of torch, FDAM's FFTs cost less than what stands around them: making M, transposing copies in
``irfft2``, and a trip to memory for each step. Here eight maps at a time go through all steps in one core's cache, and
the gate is one trip to memory. Maps may come channels last, where eight channels lie side by side anyway; the result
has the layout of the features. The sources beside this file are built into ``_kernels*.so`` when the package is
installed; where that was not possible (no compiler), ``available()`` is false and torch's operations run everywhere.
"""

from fdam_rotate.models.layers.cpu.gate import inverted_gate, inverted_gate_gradient
from fdam_rotate.models.layers.cpu.library import available, serves
from fdam_rotate.models.layers.cpu.scale import quick, scaled, scaled_gradient

__all__ = [
    "available",
    "inverted_gate",
    "inverted_gate_gradient",
    "quick",
    "scaled",
    "scaled_gradient",
    "serves",
]
