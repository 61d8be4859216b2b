"""FDAM's arithmetic in C++ for the CPU: FreqScale and AttInv with their gradients, float32, float64 and bfloat16.

Written as operations of torch, FDAM's FFTs cost less than what stands around them: making M, transposing copies in
``irfft2``, and a trip to memory for each step. Here eight maps at a time, with AVX-512 sixteen, go through all steps in
one core's cache; AttInv's logits and its gate are one trip to memory each. Maps may come channels last, where so many
channels lie side by side anyway; the result has the layout of the features. Maps of bfloat16 are computed
on in float32.

The sources beside this file are built into ``_kernels*.so`` when the package is installed; where that was not possible
(no compiler), ``available()`` is false and torch's operations run everywhere.
"""

from fdam_rotate.models.layers.cpu.gate import inverted_gate, inverted_gate_gradient
from fdam_rotate.models.layers.cpu.library import available, computed_in, serves
from fdam_rotate.models.layers.cpu.logits import squared_relu_linear, squared_relu_linear_gradient
from fdam_rotate.models.layers.cpu.scale import quick, scaled, scaled_gradient

__all__ = [
    "available",
    "computed_in",
    "inverted_gate",
    "inverted_gate_gradient",
    "quick",
    "scaled",
    "scaled_gradient",
    "serves",
    "squared_relu_linear",
    "squared_relu_linear_gradient",
]
