"""Detections as one CSV table, for spreadsheets and data frames: UTF-8, a header, commas, one detection a row.

    image,class,score,x1,y1,x2,y2,x3,y3,x4,y4        task 1: corners in pixels of the image
    image,class,score,xmin,ymin,xmax,ymax            task 2

Rows stand in the order of the classes, and within one as in ``Task1_<class>.txt``: by image, then by falling score. The
numbers are those of these files, to the character; names stand as they are (`fdam_rotate.dota.names`), in quotes where
they hold a comma or a quote.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from fdam_rotate.dota.files import atomic_path
from fdam_rotate.dota.names import unescape_id

__all__ = ["CSV_COLUMNS", "csv_file_name", "write_csv"]

#: The header, by task.
CSV_COLUMNS = {
    1: ("image", "class", "score", "x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4"),
    2: ("image", "class", "score", "xmin", "ymin", "xmax", "ymax"),
}


def csv_file_name(task: int = 1) -> str:
    """The name of the table beside the class files: ``Task1.csv`` or ``Task2.csv``."""
    return f"Task{task}.csv"


def write_csv(folder: Path, classes: Sequence[str], *, task: int = 1) -> Path:
    """Write the table of all class files in ``folder``, which are our own, beside them, all or nothing."""
    from fdam_rotate.dota.detections import task_file_name  # with NumPy, which --help does not wait for

    path = folder / csv_file_name(task)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(CSV_COLUMNS[task])
        for name in classes:
            with (folder / task_file_name(name, task)).open(encoding="utf-8", newline="\n") as lines:
                for line in lines:
                    image, *numbers = line.rstrip("\n").split(" ")
                    table.writerow([unescape_id(image), name, *numbers])
    return path
