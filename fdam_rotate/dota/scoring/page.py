"""All of an evaluation on one HTML page that needs nothing beside it: tables, notes and pictures inside the file."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence

from fdam_rotate.dota.scoring.tables import Table, to_html
from fdam_rotate.dota.webpage import web_page

__all__ = ["CAPTIONS", "html_page"]

#: What stands below each picture, by its name.
CAPTIONS = {
    "pr_curves": "Precision over recall, class by class.",
    "ap": "AP by class; the line is the mean.",
    "ap_by_size": "AP by class and object size, with the number of objects.",
    "confusion": "Which class is taken for which, in percent of each row.",
    "worst_images": "The images with the most mistakes.",
    "causes": "What the mean AP would gain if the mistakes of one cause were mended.",
    "calibration": "Share of right detections over their score; on the diagonal a score is a probability.",
    "by_threshold": "Precision, recall and F1 of all classes together by score threshold.",
}

# the picture that belongs to a table stands below it
_OF_TABLE = {"scores": ("ap", "pr_curves"), "by_size": ("ap_by_size",), "worst_images": ("worst_images",)}

_STYLE = """
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; border-top: 1px solid #8884; padding-top: 1.2rem; }
.figures { display: flex; gap: 1rem 2.5rem; flex-wrap: wrap; margin: 1rem 0; }
.figures div { min-width: 7rem; } .figures b { display: block; font-size: 1.7rem; font-weight: 600; }
nav a { margin-right: 1rem; white-space: nowrap; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .22rem .8rem .22rem 0; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 1px solid; font-weight: 600; }
tbody tr:nth-child(even) { background: #8881; }
tr.total td { border-top: 1px solid; font-weight: 600; }
ul { padding-left: 1.2rem; margin: .6rem 0; } li.warning { color: #b3541e; }
figure { margin: 1.2rem 0; } figure img { max-width: 100%; background: white; }
figcaption { font-size: .9rem; opacity: .8; }
"""


def html_page(
    title: str,
    headline: Mapping[str, str],
    notes: Sequence[str],
    tables: Sequence[Table],
    pictures: Mapping[str, bytes],
) -> str:
    """The page as text.

    Args:
        title: heading and title of the page.
        headline: the few numbers that stand large on top, by their names.
        notes: what was scored and left out; those that start with ``'warning: '`` are marked.
        tables: in their order; each has a section.
        pictures: PNG files by the names of ``CAPTIONS``; those that belong to no table come last.
    """
    left = dict(pictures)
    sections = []
    for table in tables:
        names = _OF_TABLE.get(table.key, (table.key,))
        figures = "".join(_figure(name, left.pop(name)) for name in names if name in left)
        body = f'<div class="wide">{to_html(table)}</div>\n{_list(table.notes)}{figures}'
        sections.append((table.key, table.title, body))
    sections += [(name, name.replace("_", " ").capitalize(), _figure(name, png)) for name, png in left.items()]
    large = "".join(f"<div>{html.escape(name)}<b>{html.escape(text)}</b></div>" for name, text in headline.items())
    links = "".join(f'<a href="#{key}">{html.escape(name)}</a> ' for key, name, _ in sections)
    parts = [f'<h2 id="{key}">{html.escape(name)}</h2>\n{body}' for key, name, body in sections]
    body = (
        f'<h1>{html.escape(title)}</h1>\n<div class="figures">{large}</div>\n<nav>{links}</nav>\n{_list(notes)}'
        + "\n".join(parts)
    )
    return web_page(title, body, style=_STYLE)


def _list(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    items = (
        f'<li class="warning">{html.escape(note)}</li>'
        if note.startswith("warning: ")
        else f"<li>{html.escape(note)}</li>"
        for note in notes
    )
    return f"<ul>{''.join(items)}</ul>\n"


def _figure(name: str, png: bytes) -> str:
    caption = html.escape(CAPTIONS[name])
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{caption}"><figcaption>{caption}</figcaption></figure>\n'
    )
