"""All that is said of detections: scores, how sure they are, why they are wrong, for whom they are good; and its files.

`assess` answers the questions asked of one run, `compare_sides` says what one run, or several, gain over others. Both
take what has been read, and give tables and notes; `Assessment.write` and `Comparison.write` make the files of them.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fdam_rotate.dota.detections import Detections
from fdam_rotate.dota.errors import DotaError, ScoreError
from fdam_rotate.dota.files import write_text
from fdam_rotate.dota.labels import Labels
from fdam_rotate.dota.scoring.analysis import Confusion, ImageErrors, confusion, worst_images
from fdam_rotate.dota.scoring.bootstrap import ScoreDifference, ScoreIntervals, compare_scores, score_intervals
from fdam_rotate.dota.scoring.calibration import calibrate, calibration_table
from fdam_rotate.dota.scoring.causes import find_causes
from fdam_rotate.dota.scoring.evaluation import evaluate
from fdam_rotate.dota.scoring.examples import worst_examples
from fdam_rotate.dota.scoring.mending import cause_table, mend_causes
from fdam_rotate.dota.scoring.repeated import repeated_labels
from fdam_rotate.dota.scoring.report import (
    comparison_table,
    format_markdown,
    format_notes,
    format_table,
    headline,
    interval_notes,
    repeated_notes,
    score_table,
    tie_notes,
    to_json,
    worst_table,
    write_json,
)
from fdam_rotate.dota.scoring.scores import EvalResult
from fdam_rotate.dota.scoring.strata import StratumScore, score_by, score_by_size, strata_table
from fdam_rotate.dota.scoring.tables import Table, to_latex, to_markdown, to_text
from fdam_rotate.dota.scoring.thresholds import ClassThreshold, best_thresholds, curve_table, threshold_table
from fdam_rotate.dota.scoring.ties import TieBounds, tie_bounds

__all__ = ["RESAMPLES", "Assessment", "Comparison", "Costs", "Files", "Questions", "assess", "compare_sides"]

#: Draws behind the intervals of a comparison, and of a page, where nothing else is asked for.
RESAMPLES = 1000


class Costs:
    """CPU seconds of the parts of a run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Count what is spent inside towards ``part``."""
        start = time.process_time()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.process_time() - start

    def __str__(self) -> str:
        return "CPU seconds: " + ", ".join(f"{part} {seconds:.2f}" for part, seconds in self.seconds.items())


@dataclass(frozen=True)
class Questions:
    """What is asked of detections.

    Attributes:
        metric: one of `fdam_rotate.dota.scoring.scores.METRICS`.
        iou_thrs: overlaps above which an object is found; the first is that of the mAP.
        task: 1, oriented boxes, or 2, horizontal ones.
        bootstrap: draws behind the intervals; None: no intervals.
        if_possible: of ``bootstrap`` and ``calibration`` those to pass over with a note where they have no answer
            (intervals of one source image, calibration of scores that are no shares); others are then errors.
        seed: of the draws.
        causes: why detections are wrong and objects missed.
        by: kinds of `fdam_rotate.dota.scoring.strata.score_by`: AP by size, aspect and so on.
        calibration: whether scores are shares of right detections.
        choose_on: images on which score thresholds are chosen; None: none are.
        score_thr: least score of the confusion matrix, of the worst images, and of what the causes cost.
    """

    metric: str = "voc07"
    iou_thrs: Sequence[float] = (0.5,)
    task: int = 1
    bootstrap: int | None = None
    if_possible: Collection[str] = ()
    seed: int = 0
    causes: bool = False
    by: Sequence[str] = ()
    calibration: bool = False
    choose_on: Collection[str] | None = None
    score_thr: float = 0.3


@dataclass(frozen=True)
class Files:
    """Where to write; None: not at all. ``overwrite``: pictures in ``plots`` are replaced."""

    json: Path | None = None
    markdown: Path | None = None
    latex: Path | None = None
    thresholds: Path | None = None
    plots: Path | None = None
    page: Path | None = None
    overwrite: bool = False


@dataclass
class Assessment:
    """What was found out about one run.

    Attributes:
        questions: what was asked.
        result: the scores.
        ties: what equal scores leave open.
        intervals: of the scores, if asked for.
        trained_on: ids of images that the model was trained on, as far as known.
        notes: sentences on what was scored; what may be a mistake starts with 'warning: '.
        tables: answers to the other questions.
        thresholds: the score thresholds that were chosen.
    """

    questions: Questions
    result: EvalResult
    ties: TieBounds
    intervals: ScoreIntervals | None
    trained_on: Collection[str]
    notes: list[str]
    tables: list[Table] = field(default_factory=list)
    thresholds: dict[str, ClassThreshold] = field(default_factory=dict)

    @cached_property
    def sizes(self) -> list[StratumScore]:
        """AP by the size of objects."""
        return score_by_size(self.result)

    @cached_property
    def confused(self) -> Confusion:
        """Which classes are taken for which; it costs about half as much as reading and scoring."""
        return confusion(self.result, score_thr=self.questions.score_thr)

    @cached_property
    def worst(self) -> list[ImageErrors]:
        """The images with the most mistakes."""
        return worst_images(self.result, score_thr=self.questions.score_thr)

    def lines(self) -> list[str]:
        """All of it as text: the table of scores, the notes, and each further table."""
        shown = [format_table(self.result, self.intervals), *self.notes]
        for table in self.tables:
            shown += ["", table.title, to_text(table), *table.notes]
        return shown

    def write(self, files: Files, title: str) -> list[Path]:
        """Write what is asked for, under this title; the pictures that were drawn as files."""
        pictures: list[Path] = []
        more = [table for table in self.tables if table.key != "by_size"]  # which the files have anyway
        scores = score_table(self.result, self.intervals)
        if files.thresholds:
            write_json(files.thresholds, {name: one.threshold for name, one in self.thresholds.items()})
        if files.plots:
            from fdam_rotate.dota.scoring.plots import write_plots

            drawn = (self.result, self.sizes, self.confused, self.worst, more)
            pictures = write_plots(files.plots, *drawn, overwrite=files.overwrite)
        if files.json:
            confused = self.confused if files.plots or files.page else None
            content = to_json(
                self.result, self.sizes, confused, self.worst, self.trained_on, more, self.intervals, self.ties
            )
            write_json(files.json, content)
        if files.markdown:
            text = format_markdown(self.result, self.sizes, self.worst, title, self.trained_on, more, self.intervals)
            write_text(files.markdown, text)
        if files.latex:
            write_text(files.latex, "\n\n".join(map(to_latex, [scores, *more])) + "\n")
        if files.page:
            from fdam_rotate.dota.scoring.page import html_page
            from fdam_rotate.dota.scoring.plots import draw_plots

            tables = [scores, *more, strata_table(self.result, "size", self.sizes), worst_table(self.worst)]
            drawings = draw_plots(self.result, self.sizes, self.confused, self.worst, more)
            page = html_page(title, headline(self.result, self.intervals), self.notes, tables, drawings)
            write_text(files.page, page)
        return pictures


def assess(
    detections: Mapping[str, Detections],
    truths: Mapping[str, Labels],
    classes: Sequence[str],
    questions: Questions,
    *,
    trained_on: Collection[str] = (),
    image_sizes: Mapping[str, tuple[int, int]] | None = None,
    windows: Mapping[str, NDArray[np.float64]] | None = None,
    unmerged: Mapping[str, Detections] | None = None,
    costs: Costs | None = None,
) -> Assessment:
    """Answer questions about the detections of one run.

    Args:
        detections: by class, in pixels of whole images.
        truths: labels by image id; the images that are scored.
        classes: the classes that are scored.
        questions: what is asked.
        trained_on: ids of images that the model was trained on, as far as known.
        image_sizes: width and height of images by id, for the distance to the border.
        windows: for causes: those that were predicted on, as `fdam_rotate.dota.manifest.Manifest.windows` gives them.
        unmerged: for causes: the detections before merging, in pixels of whole images.
        costs: where the CPU seconds of each part are counted.
    """
    costs = costs if costs is not None else Costs()
    with costs.of("scoring"):
        result = evaluate(
            detections, truths, classes, iou_thrs=questions.iou_thrs, metric=questions.metric, task=questions.task
        )
        ties = tie_bounds(result)
    intervals, without = None, []
    if questions.bootstrap:
        with costs.of("bootstrap"):
            try:
                intervals = score_intervals(result, resamples=questions.bootstrap, seed=questions.seed)
            except ScoreError as error:
                if "bootstrap" not in questions.if_possible:
                    raise
                without = [f"no intervals: {error}"]
    notes = [*format_notes(result, trained_on), *repeated_notes(repeated_labels(truths, classes)), *tie_notes(ties)]
    notes += interval_notes(intervals) if intervals else without
    found = Assessment(questions, result, ties, intervals, trained_on, notes)
    if questions.causes:
        with costs.of("causes"):
            mistakes = find_causes(result, windows=windows, unmerged=unmerged)
            mended = mend_causes(result, mistakes, score_thr=questions.score_thr)
            found.tables.append(cause_table(mended, worst_examples(result, mistakes)))
    if questions.by:
        with costs.of("strata"):
            for kind in dict.fromkeys(questions.by):
                found.tables.append(strata_table(result, kind, score_by(result, kind, sizes=image_sizes)))
    if questions.calibration:
        with costs.of("calibration"):
            try:
                found.tables.append(calibration_table(calibrate(result)))
            except DotaError as error:
                if "calibration" not in questions.if_possible:
                    raise
                found.notes.append(f"no calibration: {error}")
    if questions.choose_on is not None:
        with costs.of("thresholds"):
            found.thresholds = best_thresholds(result, questions.choose_on)
            found.tables += [threshold_table(found.thresholds), curve_table(result)]
    return found


@dataclass(frozen=True)
class Comparison:
    """What the second side, B, gains over the first, A, on the same images."""

    difference: ScoreDifference
    table: Table

    def lines(self) -> list[str]:
        """The table and its notes as text."""
        return [to_text(self.table), *self.table.notes]

    def verdict(self) -> str:
        """The mAP of both sides, the gain, and its interval."""
        gain = self.difference.map
        return f"mAP {gain.first:.4f} -> {gain.second:.4f}: {gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})"

    def write(self, files: Files, runs: Mapping[str, Sequence[str]]) -> None:
        """Write what is asked for of JSON, Markdown and LaTeX; ``runs`` names those of each side."""
        if files.json:
            write_json(files.json, {"runs": dict(runs), self.table.key: self.table.content})
        if files.markdown:
            notes = "\n".join(f"- {note}" for note in self.table.notes)
            write_text(files.markdown, f"# {self.table.title}\n\n{to_markdown(self.table)}\n\n{notes}\n")
        if files.latex:
            write_text(files.latex, to_latex(self.table) + "\n")


def compare_sides(
    first: Sequence[EvalResult], second: Sequence[EvalResult], *, bootstrap: int | None = None, seed: int = 0
) -> Comparison:
    """Compare the scores of both sides' runs, over ``bootstrap`` draws (1000) of source images and runs."""
    difference = compare_scores(first, second, resamples=bootstrap or RESAMPLES, seed=seed)
    return Comparison(difference, comparison_table(difference))
