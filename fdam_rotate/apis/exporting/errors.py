"""What can go wrong in an export."""

from __future__ import annotations

from fdam_rotate.dota.errors import DotaError

__all__ = ["ExportError"]


class ExportError(DotaError):
    """A model that cannot be exported, or whose exported form computes something else."""
