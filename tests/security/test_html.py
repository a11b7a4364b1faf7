"""What users name cannot become markup, nor run, in any page we write."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest
from selectolax.lexbor import LexborHTMLParser

from milp_search.core.trial import Measurement, Objective
from milp_search.space.search_space import SearchSpace, configure
from milp_search.study.page import embedded
from milp_search.study.report import render_report
from milp_search.study.result_charts import dot_chart, heat_map, line_chart
from milp_search.study.result_table import Cell, Column, Line, ResultTable
from milp_search.study.study import Study
from milp_search.study.table_page import ResultFigure, render_tables
from security.sources import PACKAGE

OWN = "document.documentElement.setAttribute('owned','1')"

# HERE is a server that counts what is asked of it.
PAYLOADS = {
    "script": f"<script>{OWN}</script>",
    "image": f"<img src=HERE/x onerror={OWN}>",
    "svg": f"<svg onload={OWN}><script>{OWN}</script></svg>",
    "link": f'<a href="javascript:{OWN}">x</a>',
    "frame": f"<iframe srcdoc='<script>parent.{OWN}</script>' src=HERE/f></iframe>",
    "end of script": f"</script><script>{OWN}</script>",
    "end of style": f"</style><style>@import 'HERE/s';</style><script>{OWN}</script>",
    "style": "<style>*{background:url(HERE/b)}</style>",
    "attribute": f'" onmouseover="{OWN}" autofocus onfocus="{OWN}" x="',
    "quote": f"' onload='{OWN}",
    "mutation": f'<noscript><p title="</noscript><img src=x onerror={OWN}>">',
    "math": f"<math><mtext><table><mglyph><style><!--</style><img src onerror={OWN}>",
    "template": "{{7*7}}{% for x in [1] %}x{% endfor %}${7*7}#{7*7}",
    "plotly": f"<b>x</b><a href=\"javascript:{OWN}\">y</a><a href='HERE/p'>z</a>%{{x}}<extra>",
    "entities": f"&lt;script&gt;{OWN}&lt;/script&gt;&#60;img src=x onerror={OWN}&#62;",
    "separators": f"\u2028\u2029</script>\u2028{OWN}",
    "comment": f"<!--<script>--><!--><script>{OWN}</script>",
    "base": "<base href=HERE/><meta http-equiv=refresh content='0;url=HERE/r'>",
}


class Counted(BaseHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def here() -> Iterator[str]:
    """The address of a server that notes what is asked of it."""
    Counted.asked.clear()
    with HTTPServer(("127.0.0.1", 0), Counted) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def report(folder: Path, text: str) -> str:
    """Returns the report of a study in which every free text is this one."""
    layers = SearchSpace(text, 2, configure({"lora_rank": [1, 2, 4], "retrieved_items": [0, 1]}, 2))
    goals = [Objective(f"{text}1", "minimize", 9.0), Objective(f"{text}2", "maximize", 0.0)]
    settings = {
        "name": text,
        "versions": {text: text},
        "data": text,
        "data_fingerprint": text,
        "base_model": text,
        "workers": 1,
    }
    with Study.create(
        folder, space=layers, objectives=goals, proposer="random", initial_trials=2,
        settings=settings,
    ) as study:  # fmt: skip
        for number in range(5):
            trial = study.ask()
            if number == 1:
                study.fail(trial.index, text, "exception")
            else:
                told: dict[str, Measurement | float] = {
                    goals[0].metric: Measurement(5.0 - number, 0.1),
                    goals[1].metric: number,
                }
                study.tell(trial.index, told)
        return render_report(study)


def tables(_: Path, text: str) -> str:
    """Returns a page of tables and figures, analyses among them, in which all text is this one."""
    table = ResultTable(
        "name", text, text,
        (Column(text, text, "minimize"), Column(f"{text} ", f"{text}2", "maximize")),
        (Line(text, (Cell((1.0, 2.0), 3.0), Cell((1.0,)))), Line(f"{text}b", (Cell((2.0,)),) * 2)),
        ranked=True,
    )  # fmt: skip
    charts = (
        line_chart(table, text, [1.0], text),
        dot_chart(table, text),
        heat_map([text, f"{text}b"], [[1.0, 0.5], [0.5, 1.0]], text),
    )
    figures = [ResultFigure(text, text, chart) for chart in charts]
    return render_tables(text, [table], figures, [(text, text)])


PAGES = {"report": report, "tables": tables}


def elements(html: str) -> list[tuple[str, tuple[str, ...]]]:
    """Returns every element with its attributes' names, in order, as a browser parses them."""
    tree = LexborHTMLParser(html)
    return [(str(node.tag), tuple(node.attributes)) for node in tree.css("*")]


@pytest.mark.parametrize("kind", PAYLOADS)
@pytest.mark.parametrize("page", PAGES)
def test_a_parser_finds_no_element_or_attribute_more_than_for_harmless_text(
    page: str, kind: str, tmp_path: Path
) -> None:
    harmless = elements(PAGES[page](tmp_path / "harmless", "harmless text"))
    hostile = PAGES[page](tmp_path / "hostile", PAYLOADS[kind])
    assert elements(hostile) == harmless
    if kind == "template":
        (heading,) = LexborHTMLParser(hostile).css("h1")
        assert "49" not in heading.text()


def test_the_comparison_sees_a_payload_that_is_not_escaped(tmp_path: Path) -> None:
    html = report(tmp_path / "study", "harmless text")
    broken = html.replace("<h1>harmless text</h1>", f"<h1>{PAYLOADS['image']}</h1>")
    assert len(elements(broken)) == len(elements(html)) + 1


@pytest.mark.parametrize("kind", PAYLOADS)
def test_embedded_json_holds_no_letter_of_markup_and_reads_back(kind: str) -> None:
    text = embedded({"x": PAYLOADS[kind]})
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text) == {"x": PAYLOADS[kind]}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_no_address_outside_of_it(page: str, tmp_path: Path) -> None:
    tree = LexborHTMLParser(PAGES[page](tmp_path / "study", "harmless text"))
    for node in tree.css("*"):
        for name, value in node.attributes.items():
            assert name not in ("src", "href", "srcset", "action", "data", "poster"), node.tag
            assert not name.startswith("on")
            assert "http://" not in (value or "")
            assert "https://" not in (value or "")
    for node in tree.css("style"):
        assert not re.search(r"url\(|@import", node.text())


@pytest.mark.parametrize("page", PAGES)
def test_the_policy_allows_our_scripts_by_hash_and_nothing_from_elsewhere(
    page: str, tmp_path: Path
) -> None:
    tree = LexborHTMLParser(PAGES[page](tmp_path / "study", "harmless text"))
    (policy,) = tree.css("meta[http-equiv=Content-Security-Policy]")
    words = policy.attributes["content"] or ""
    parts = dict(part.strip().split(" ", 1) for part in words.split(";"))
    assert parts["default-src"] == "'none'"
    assert parts["base-uri"] == parts["form-action"] == "'none'"
    assert all(word.startswith("'sha256-") for word in parts["script-src"].split())
    assert parts["img-src"] == "data: blob:"
    assert "connect-src" not in parts
    assert "http" not in words.replace("http-equiv", "")


def test_templates_escape_and_never_call_a_text_safe() -> None:
    for template in (PACKAGE / "study" / "report_page").glob("*.html"):
        assert not re.search(r"\|\s*safe|autoescape|Markup", template.read_text("utf-8"))


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no browser here")
@pytest.mark.parametrize("page", PAGES)
def test_a_browser_runs_and_loads_nothing_of_it(page: str, here: str, tmp_path: Path) -> None:
    payload = "".join(PAYLOADS.values()).replace("HERE", here)
    hostile = dumped(PAGES[page](tmp_path / "hostile", payload), tmp_path)
    assert hostile.css("svg.main-svg")  # our own scripts ran
    (root,) = hostile.css("html")
    assert "owned" not in root.attributes
    for node in hostile.css("*"):
        assert node.tag not in ("iframe", "base", "img", "object", "embed", "math", "noscript")
        for name, value in node.attributes.items():
            assert not name.startswith("on"), node.tag
            assert not (value or "").strip().startswith("javascript:")
    assert Counted.asked == []


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no browser here")
def test_a_text_that_begins_as_names_of_colours_do_is_shown(tmp_path: Path) -> None:
    page = dumped(report(tmp_path / "study", "@me"), tmp_path)
    titles = [node.text() for node in page.css("svg.main-svg text")]
    assert any("@me" in title and "lower is better" in title for title in titles)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no browser here")
def test_the_browser_would_show_that_something_ran(here: str, tmp_path: Path) -> None:
    owned = dumped(f"<html><body>{PAYLOADS['image'].replace('HERE', here)}</body></html>", tmp_path)
    (root,) = owned.css("html")
    assert root.attributes["owned"] == "1"
    assert Counted.asked == ["/x"]
    Counted.asked.clear()


def dumped(html: str, folder: Path) -> LexborHTMLParser:
    """Returns a page as it is after a browser has shown it and run its scripts."""
    assert CHROMIUM is not None
    (folder / "page.html").write_text(html, encoding="utf-8")
    profile = f"--user-data-dir={folder / 'profile'}"
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", profile]
    done = subprocess.run(
        [*command, "--virtual-time-budget=5000", "--dump-dom", f"file://{folder / 'page.html'}"],
        capture_output=True, timeout=240, check=True,
    )  # fmt: skip
    return LexborHTMLParser(done.stdout.decode("utf-8", "replace"))
