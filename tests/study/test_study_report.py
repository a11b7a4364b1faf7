"""The report: one page that holds everything and runs nothing but its own scripts."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from milp_search.core.records import Prediction
from milp_search.core.trial import Measurement, Objective
from milp_search.search.constraints import OutcomeConstraint
from milp_search.search.presets import EngineOptions
from milp_search.study import charts
from milp_search.study.examples import chosen_examples, write_examples
from milp_search.study.report import render_report, write_report
from milp_search.study.study import Study
from study.making import GOALS, SHAPE, Make, tell_many

# GPyTorch scripts functions when it is imported, which Torch no longer likes.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")

NASTY = "<img src=x onerror=alert(1)>\"'&</script><script>alert(2)</script>"


class Page(HTMLParser):
    """The elements of a page, its scripts and its text."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text: list[str] = []
        self._open = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            self.scripts[-1] += data
        elif self._open != "style":
            self.text.append(data)

    def figures(self) -> list[dict[str, Any]]:
        kinds = [attrs.get("type") for tag, attrs in self.tags if tag == "script"]
        found = zip(kinds, self.scripts, strict=True)
        return [json.loads(text) for kind, text in found if kind == "application/json"]


def full(make: Make, **given: object) -> Study:
    study = make(shape=SHAPE, **given)
    tell_many(study, 12)
    return study


def test_the_report_shows_front_trace_masks_and_correlations(make: Make) -> None:
    study = full(make, settings={"name": "mine", "versions": {"torch": "2.13.0"}})
    page = Page(render_report(study))
    scatter, trace, influence, mask = page.figures()
    front = study.front()
    assert scatter["data"][-1]["name"] == "Pareto front"
    assert sorted(scatter["data"][-1]["x"]) == sorted(t.measurements["loss"].mean for t in front)
    assert sum(len(data["x"]) for data in scatter["data"]) == 11
    assert trace["data"][0]["y"] == study.hypervolume_trace()
    assert trace["layout"]["shapes"][0]["x0"] == 2.5
    assert len(mask["data"][0]["z"]) == len(front) + 1
    assert mask["data"][0]["y"][0] == "<b>mean</b>"
    assert influence["data"][0]["x"] == ["loss", "rouge_l"]
    text = " ".join(" ".join(page.text).split())
    for fact in ("mine", "torch 2.13.0", "loss 3, rouge_l 0", "out of memory", "milp_logo"):
        assert fact in text


def test_mean_rank_and_rows_are_the_front_trials_best_loss_first(make: Make) -> None:
    study = full(make)
    grid = charts.mask_chart(study)["data"][0]
    plans = [trial.plan.adapter.ranks for trial in charts.by_first(study) if trial.plan]
    assert list(reversed(grid["z"][1:])) == [list(map(float, ranks)) for ranks in plans]
    losses = [trial.measurements["loss"].mean for trial in charts.by_first(study)]
    assert losses == sorted(losses)
    assert grid["z"][0][0] == pytest.approx(sum(ranks[0] for ranks in plans) / len(plans))


def test_each_pair_of_objectives_has_a_chart_and_one_alone_too(make: Make) -> None:
    goals = [*GOALS, Objective("trainable_params", "minimize", 1e6)]
    assert len(charts.front_charts(full(make, objectives=goals))) == 3
    (figure,) = charts.front_charts(full(make, objectives=[Objective("rouge_l", "maximize", 0.0)]))
    assert len(figure["data"][0]["x"]) == 11
    assert figure["data"][0]["error_y"]["visible"]
    assert figure["data"][0]["error_y"]["array"] == [0.02] * 11


def test_a_wide_count_is_shown_on_a_logarithmic_axis(make: Make) -> None:
    study = make(objectives=[Objective("cost", "minimize", 1e6)])
    for cost in (1.0, 1000.0):
        study.tell(study.ask().index, {"cost": cost})
    (figure,) = charts.front_charts(study)
    assert figure["layout"]["yaxis"]["type"] == "log"


def test_validation_and_test_stand_side_by_side(make: Make) -> None:
    study = make()
    study.tell(study.ask().index, {"loss": Measurement(2.25, 0.125), "rouge_l": 0.5})
    assert "No final test has been run." in render_report(study)
    study.record_test(0, 0, {"loss": Measurement(2.5, 0.25), "rouge_l": 0.375})
    html = render_report(study)
    cells = re.findall(r'<td class="value( test)?">([^<]+)</td>', html)
    assert cells[:4] == [
        ("", "2.250 ± 0.12"),
        (" test", "2.500 ± 0.25"),
        ("", "0.5000"),
        (" test", "0.3750"),
    ]


def test_the_page_loads_nothing_and_its_policy_knows_its_scripts(make: Make) -> None:
    page = Page(render_report(full(make)))
    for tag, attrs in page.tags:
        assert tag not in ("link", "iframe", "img", "object", "embed", "base", "form")
        assert not {"src", "href", "srcset", "action"} & set(attrs)
        assert not any(name.startswith("on") for name in attrs)
    (policy,) = (
        attrs["content"]
        for _, attrs in page.tags
        if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    kinds = [attrs.get("type") for tag, attrs in page.tags if tag == "script"]
    running = [text for kind, text in zip(kinds, page.scripts, strict=True) if kind is None]
    assert len(running) == 2
    for script in running:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]


def test_names_are_text_and_never_markup(make: Make) -> None:
    calm = make(metrics=["rouge_1"])
    nasty = make(settings={"name": NASTY, "versions": {NASTY: NASTY}, "data_fingerprint": NASTY})
    for study in (calm, nasty):
        metric = "rouge_1" if study is calm else NASTY
        for _ in range(9):
            study.tell(study.ask().index, {"loss": 2.0, "rouge_l": 0.5, metric: 1.0})
    pages = [Page(render_report(study)) for study in (calm, nasty)]
    kinds = [{tag for tag, _ in page.tags} for page in pages]
    assert kinds[0] == kinds[1]
    assert len(pages[0].scripts) == len(pages[1].scripts)
    assert NASTY in " ".join(pages[1].text)


def test_objectives_with_markup_stay_text_in_charts(make: Make) -> None:
    study = make(objectives=[Objective(NASTY, "minimize", 3.0), GOALS[1]])
    study.tell(study.ask().index, {NASTY: 1.0, "rouge_l": 0.5})
    (scatter, *_) = Page(render_report(study)).figures()
    assert "<img" not in json.dumps(scatter)


def test_what_differs_from_the_preset_is_said(make: Make) -> None:
    engine = EngineOptions(acquisition="qnehvi", outcome_transform="standardize")
    text = " ".join(" ".join(Page(render_report(make(engine=engine))).text).split())
    assert "preset default, acquisition qnehvi Initial design" in text


def test_why_a_trial_failed_is_not_in_the_report(make: Make) -> None:
    study = make()
    study.fail(study.ask().index, "could not parse: canary-4711", "exception")
    study.abandon(study.ask().index, "canary-4711")
    html = render_report(study)
    assert "canary-4711" not in html
    assert "exception" in html


def test_facts_in_another_form_than_a_run_tells_them_cost_no_report(make: Make) -> None:
    for settings in (
        {"versions": "torch 2.13.0", "servers": "mine"},
        {"versions": ["torch 2.13.0"], "servers": {"endpoint": "mine"}},
        {"versions": {"torch": "2.13.0"}, "servers": {"endpoint": {"prompt_price": "free"}}},
    ):
        assert "torch 2.13.0" in render_report(make(settings=settings))


def test_a_study_without_results_has_a_report(make: Make) -> None:
    study = make(objectives=[Objective("loss", "minimize")])
    assert Page(render_report(study)).figures() == []
    study.ask()
    text = " ".join(Page(render_report(study)).text)
    assert "No trial has completed." in text
    assert "under way" in text


def test_the_report_is_a_function_of_the_store(make: Make) -> None:
    study = full(make)
    path = write_report(study)
    assert path == study.folder / "report.html"
    study.close()
    with Study.open(study.folder, read_only=True) as seen:
        assert render_report(seen) == path.read_text("utf-8")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\N{EN DASH}"),
        (0.0, "0"),
        (12.0, "12"),
        (1234567.0, "1,234,567"),
        (12345.6, "12,346"),
        (0.5, "0.5000"),
        (2.03456, "2.035"),
        (1e-7, "1.000e-07"),
        (-0.0, "0"),
        (999.94, "999.9"),
        (999.96, "1,000"),
        (-999.96, "-1,000"),
        (1e300, "1.000e+300"),
    ],
)
def test_numbers_are_written_for_people(value: float | None, text: str) -> None:
    assert charts.number(value) == text


def test_measurements_show_their_error_where_there_is_one() -> None:
    assert charts.measured(None) == "\N{EN DASH}"
    assert charts.measured(Measurement(2.0, 0.0)) == "2"
    assert charts.measured(Measurement(2.5)) == "2.500"
    assert charts.measured(Measurement(2.5, 0.0312)) == "2.500 ± 0.031"


def test_constraints_are_told_with_what_breaks_them(make: Make) -> None:
    # Of trials 0 to 11, all but 2 complete; the first bound is broken by 0, 1, 3 and 4, the
    # second by 0, 1, 9, 10 and 11.
    study = full(make, constraints=["loss <= 2", "rouge_l >= 0.2"])
    page = Page(render_report(study))
    text = " ".join(" ".join(page.text).split())
    assert "under loss <= 2 and rouge_l >= 0.2 ." in text
    assert "loss <= 2, broken by 4 of 11 completed trials" in text
    assert "rouge_l >= 0.2, broken by 5 of 11 completed trials" in text
    assert "breaking a constraint 7" in text
    scatter = page.figures()[0]
    shown = {data["name"]: len(data["x"]) for data in scatter["data"]}
    assert shown == {"breaks a constraint": 7, "Pareto front": 4}


@pytest.mark.parametrize("objectives", [GOALS, GOALS[:1]])
def test_an_empty_front_is_said_and_what_broke_it_shown(
    make: Make, objectives: tuple[Objective, ...]
) -> None:
    study = full(make, constraints=["rouge_1 >= 0.9"], objectives=objectives)
    page = Page(render_report(study))
    assert "No completed trial keeps every constraint" in " ".join(page.text)
    scatter, trace, _ = page.figures()  # and the correlations, but no masks
    assert [(data["name"], len(data["x"])) for data in scatter["data"]] == [
        ("breaks a constraint", 11)
    ]
    assert set(trace["data"][0]["y"]) == {0.0}


def test_constraints_with_markup_stay_text(make: Make) -> None:
    study = make(constraints=[OutcomeConstraint(NASTY, "<=", 1.0)])
    study.tell(study.ask().index, {"loss": 2.0, "rouge_l": 0.5, NASTY: 1.5})
    page = Page(render_report(study))
    assert not {"img"} & {tag for tag, _ in page.tags}
    assert f"{NASTY} <= 1, broken by 1 of 1" in " ".join(page.text)
    assert "<img" not in json.dumps(page.figures())


def test_examples_of_the_front_are_shown_folded_and_escaped_under_a_warning(make: Make) -> None:
    study = make()
    tell_many(study, 4)
    assert "own texts: the study was asked" not in " ".join(Page(render_report(study)).text)
    plain = [tag for tag, _ in Page(render_report(study)).tags]
    for trial, query in ((study.front()[0].index, NASTY + "\ud800"), (2, "off the front")):
        item = Prediction("a", query, "true", "made", 1.0, 1)
        write_examples(study.folder, chosen_examples([item], ["a"], 1, trial, 7))
    page = Page(render_report(study))
    text = " ".join(page.text)
    assert NASTY + "?" in text
    assert "off the front" not in text
    assert "own texts: the study was asked to include examples" in text
    shown = [tag for tag, _ in page.tags]
    assert shown.count("details") == 1
    assert (shown.count("img"), shown.count("script")) == (
        plain.count("img"),
        plain.count("script"),
    )
