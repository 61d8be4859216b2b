"""Errors of the torch-free library. Each takes one string, which says what was wrong, where, and what to do."""

from __future__ import annotations

__all__ = [
    "DetectionFormatError",
    "DotaError",
    "DownloadError",
    "GeoReferenceError",
    "ImageReadError",
    "LabelFormatError",
    "ManifestError",
    "OutputExistsError",
    "ScoreError",
    "Stopped",
    "UnknownClassError",
    "WorkerError",
]


class DotaError(ValueError):
    """Base of all errors that bad data or bad settings cause; command lines print it as one line and exit 1."""


class LabelFormatError(DotaError):
    """A ``labelTxt`` line that cannot be read."""


class DetectionFormatError(DotaError):
    """A ``Task1_*.txt`` or ``Task2_*.txt`` line, file or archive that cannot be read."""


class UnknownClassError(DotaError):
    """A class name that is not in the class list in force."""


class ImageReadError(DotaError):
    """An image file that is missing, truncated, empty or of a kind that cannot be read."""


class GeoReferenceError(DotaError):
    """An image that cannot be put on the ground, or a coordinate system without longitude and latitude."""


class ManifestError(DotaError):
    """A split manifest that is missing, malformed, or disagrees with the files beside it."""


class DownloadError(DotaError):
    """A file that cannot be fetched, whose checksum is wrong, or an archive that is damaged or unsafe to unpack."""


class OutputExistsError(DotaError):
    """The output is already there, and nothing said that it may be replaced."""


class ScoreError(DotaError):
    """A score would mean nothing: no ground truth, or no detection of any image in it. Command lines exit 2."""


class WorkerError(DotaError):
    """A worker process was killed, most often because memory ran out; the message names the images it had."""


class Stopped(KeyboardInterrupt):
    """A signal ended a run in good order; the message says where it stands and how to go on.

    Args:
        message: one line.
        number: of the signal; command lines exit with 128 more.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number
