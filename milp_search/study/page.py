"""What the pages have in common: one HTML file that loads nothing and runs only our scripts."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

_PAGES = Path(__file__).parent / "report_page"


def render_page(template: str, **values: Any) -> str:
    """Returns a template filled in, with style, charts and a content-security policy.

    Text is escaped; figures have to be `embedded`.
    """
    environment = Environment(
        loader=FileSystemLoader(_PAGES), autoescape=True, undefined=StrictUndefined
    )
    plotly, script = chart_library(), (_PAGES / "charts.js").read_text("utf-8")
    return environment.get_template(template).render(
        policy=_policy(plotly, script),
        style=Markup((_PAGES / "style.css").read_text("utf-8")),
        plotly=Markup(plotly),
        script=Markup(script),
        **values,
    )


def chart_library() -> str:
    """Returns the script that draws the charts, the same in every page."""
    text: str = get_plotlyjs()
    return text


def embedded(values: Any) -> Markup:
    """Returns JSON that no HTML parser takes for markup."""
    text = json.dumps(values, allow_nan=False)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)


def _policy(*scripts: str) -> str:
    """Returns a content-security policy under which these scripts run and no other."""
    hashes = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
