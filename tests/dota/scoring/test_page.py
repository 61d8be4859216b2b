"""Tables in every form, the page that holds them, and labels that occur twice."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np

from fdam_rotate.dota.labels import Labels
from fdam_rotate.dota.scoring.page import html_page
from fdam_rotate.dota.scoring.plots import draw_plots
from fdam_rotate.dota.scoring.repeated import Repeated, repeated_labels
from fdam_rotate.dota.scoring.report import repeated_notes
from fdam_rotate.dota.scoring.tables import Table, percent, percent_interval, to_html, to_latex, to_markdown, to_text

TABLE = Table("by_x", "By x & y", ["class", "AP50"], [["a_b", "-"], ["<i>", "50.00"]], ["warning: few"], total=True)


def test_text_markdown_and_html() -> None:
    assert to_text(TABLE).splitlines() == ["class   AP50", "a_b        -", "------------", "<i>    50.00"]
    assert to_markdown(TABLE).splitlines() == ["| class | AP50 |", "| --- | ---: |", "| a_b | - |", "| <i> | 50.00 |"]
    assert '<tr class="total"><td>&lt;i&gt;</td><td>50.00</td></tr>' in to_html(TABLE)
    assert to_html(TABLE).count("<tr") == 3


def test_latex_has_the_rules_of_booktabs_and_escapes() -> None:
    lines = to_latex(TABLE).splitlines()
    assert lines[2] == r"\caption{By x \& y}"
    assert lines[3] == r"\label{tab:by-x}"
    assert lines[4:] == [
        r"\begin{tabular}{lr}", r"\toprule", r"class & AP50 \\", r"\midrule", r"a\_b & -- \\", r"\midrule",
        r"\textless{}i\textgreater{} & 50.00 \\", r"\bottomrule", r"\end{tabular}", r"\end{table}",
    ]  # fmt: skip


def test_numbers() -> None:
    assert (percent(None), percent(0.12345)) == ("-", "12.35")
    assert percent_interval(0.1, 0.2) == "10.00 to 20.00"
    assert percent_interval(-0.1, 0.2, signed=True) == "-10.00 to +20.00"


class Tags(HTMLParser):
    """Checks that tags are closed in order; gathers ids, links and sources."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: dict[str, list[str]] = {"id": [], "href": [], "src": []}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img"):
            self.open.append(tag)
        for key, value in attrs:
            if key in self.seen:
                self.seen[key].append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_beside_it() -> None:
    tables = [TABLE, Table("causes", "Why", ["cause", "gain"], [["angle", "1"]])]
    page = html_page(
        "a < b", {"mAP50": "1 & 2"}, ["fine", "warning: not"], tables, {"causes": b"png", "confusion": b"x"}
    )
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert tags.seen["id"] == ["by_x", "causes", "confusion"]
    assert tags.seen["href"] == ["#by_x", "#causes", "#confusion"]
    assert tags.seen["src"] == ["data:image/png;base64,cG5n", "data:image/png;base64,eA=="]
    assert not re.search(r"https?://", page)
    assert "<h1>a &lt; b</h1>" in page
    assert "<b>1 &amp; 2</b>" in page
    assert '<li class="warning">warning: not</li>' in page
    assert "<li>fine</li>" in page
    assert page.index("cG5n") < page.index('id="confusion"')


def test_pictures_of_the_parts_depend_on_their_numbers() -> None:
    from test_causes import SHIP, causes, find_causes, mend_causes, scored

    from fdam_rotate.dota.scoring.analysis import confusion
    from fdam_rotate.dota.scoring.calibration import calibrate, calibration_table
    from fdam_rotate.dota.scoring.mending import cause_table
    from fdam_rotate.dota.scoring.strata import score_by_size
    from fdam_rotate.dota.scoring.thresholds import curve_table

    drawn = []
    for score, x in ((0.9, 64), (0.4, 350)):
        result = scored([SHIP], [("ship", score, (x, 50, 40, 10, 0)), ("ship", 0.3, (50, 50, 40, 10, 0))])
        mistakes = find_causes(result)
        assert causes(mistakes)[0][0] in ("centre", "background")
        tables = [cause_table(mend_causes(result, mistakes)), calibration_table(calibrate(result)), curve_table(result)]
        drawn.append(draw_plots(result, score_by_size(result), confusion(result), [], tables))
    assert list(drawn[0]) == ["pr_curves", "ap", "ap_by_size", "confusion", "causes", "calibration", "by_threshold"]
    for name in ("causes", "calibration", "by_threshold"):
        assert drawn[0][name].startswith(b"\x89PNG")
        assert drawn[0][name] != drawn[1][name]


def test_labels_that_occur_twice() -> None:
    box = [0, 0, 10, 0, 10, 10, 0, 10]
    turned = [10, 10, 0, 10, 0, 0, 10, 0]
    other = [0, 0, 10, 0, 10, 10, 0, 11]
    polys = np.array([box, turned, box, other, box, turned], float)
    labels = Labels(polys, ("ship", "ship", "plane", "ship", "ship", "boat"), np.zeros(6, np.int64))
    twice = Labels(polys[:2], ("boat", "boat"), np.zeros(2, np.int64))
    found = repeated_labels(
        {"b": labels, "a": twice, "c": Labels(polys[:1], ("ship",), np.zeros(1, np.int64))}, ["ship"]
    )
    assert found == [Repeated("b", "ship", 2)]
    (note,) = repeated_notes(found)
    assert note == "warning: 2 labels repeat another one of their image (2 ship on b); no detection can find both"
    assert repeated_notes([]) == []
