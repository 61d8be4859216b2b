"""``python -m fdam_rotate.commands NAME ...``: the command line where ``fdam-rotate`` is not on the path."""

from fdam_rotate.commands import console

console()
