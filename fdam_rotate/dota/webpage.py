"""The frame of every HTML page that is written: one file that loads nothing and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from typing import Any

__all__ = ["data_block", "web_page"]

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0; }
"""


def web_page(title: str, body: str, *, style: str = "", script: str = "") -> str:
    """A whole page as text.

    Its security policy allows pictures within the page, its style and its script, each by its SHA-256, and nothing
    else: no address is asked, and text from a file that were to slip in as HTML could not run.

    Args:
        title: as plain text.
        body: HTML, in which all text is escaped.
        style: CSS.
        script: JavaScript, run after ``body`` is there.
    """
    style = _STYLE + style
    scripts = _source(script) if script else "'none'"
    policy = (
        f"default-src 'none'; img-src data:; style-src {_source(style)}; script-src {scripts}; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n{body}\n"
        + (f"<script>{script}</script>\n" if script else "")
        + "</body>\n</html>\n"
    )


def data_block(name: str, content: Any) -> str:
    """JSON that a script finds by the id ``name``; whatever text it holds, it cannot end the element that holds it."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>'


def _source(text: str) -> str:
    """What a security policy calls an inline style or script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"
