"""`report.html`: one file that opens offline and shows a study, from its events alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from milp_search.core.trial import Trial, TrialStatus
from milp_search.core.whole_file import write_whole
from milp_search.search.presets import changed_options
from milp_search.study import charts
from milp_search.study.busy import busy_share
from milp_search.study.examples import read_examples
from milp_search.study.export import metric_names, over_seeds
from milp_search.study.outcome import constraint_texts
from milp_search.study.page import embedded, render_page
from milp_search.study.reuse import reuse_text, total_reuse
from milp_search.study.study import Study

REPORT_NAME = "report.html"


@dataclass(frozen=True)
class FrontRow:
    """A line of the front's table.

    Attributes:
        index: The trial.
        origin: What proposed it.
        plan: What it trains, in a line.
        pipeline: The part of the plan that is not placement and size.
        ranks: The realised rank of each layer with its height from 0 to 1.
        parameters: The number of trainable parameters.
        cells: Per metric the validation and the test measurement.
    """

    index: int
    origin: str
    plan: str
    pipeline: str
    ranks: tuple[tuple[int, float], ...]
    parameters: str
    cells: tuple[tuple[str, str], ...]


def write_report(study: Study, folder: Path | None = None) -> Path:
    """Writes `report.html`, by default into the study's folder, and returns its path."""
    return write_whole((folder or study.folder) / REPORT_NAME, render_report(study))


def render_report(study: Study) -> str:
    """Returns the report as one HTML page; it loads nothing and runs no script but its own.

    It holds users' texts where the study was asked to keep examples, and nowhere else.
    """
    has_adapters = _has_adapters(study)
    return render_page(
        "page.html",
        has_adapters=has_adapters,
        name=study.settings.get("name") or study.space.name,
        tiles=_tiles(study),
        front_figures=[embedded(figure) for figure in charts.front_charts(study)],
        trace_figure=_embedded(charts.trace_chart(study)),
        mask_figure=_embedded(charts.mask_chart(study) if has_adapters else None),
        influence_figure=_embedded(charts.influence_chart(study)),
        goals=study.objectives,
        constraints=study.constraints,
        metrics=metric_names(study),
        tested=any(study.tests(trial.index) for trial in study.front()),
        rows=[_row(study, trial) for trial in charts.by_first(study)],
        failures=_failures(study),
        examples=_examples(study),
        facts=_facts(study),
        number=charts.number,
    )


def _embedded(figure: charts.Figure | None) -> Markup | None:
    return None if figure is None else embedded(figure)


def _has_adapters(study: Study) -> bool:
    return any(trial.plan is not None and trial.plan.adapter.ranks for trial in study.front())


def _tiles(study: Study) -> list[tuple[str, str]]:
    """Returns the few numbers that say how the search went."""
    count = {status: 0 for status in TrialStatus}
    for trial in study.trials:
        count[trial.status] += 1
    tiles = [
        ("trials", str(len(study.trials))),
        ("completed", str(count[TrialStatus.COMPLETED])),
        ("on the front", str(len(study.front()))),
        ("hypervolume", charts.number(study.hypervolume())),
    ]
    others = [
        ("breaking a constraint", count[TrialStatus.COMPLETED] - len(study.eligible())),
        ("failed", count[TrialStatus.FAILED]),
        ("abandoned", count[TrialStatus.ABANDONED]),
        ("under way", len(study.pending)),
    ]
    return tiles + [(label, str(value)) for label, value in others if value]


def _row(study: Study, trial: Trial) -> FrontRow:
    ranks = () if trial.plan is None else trial.plan.adapter.ranks
    highest = max(ranks, default=0) or 1
    test = over_seeds(study.tests(trial.index))
    return FrontRow(
        index=trial.index,
        origin=trial.origin or "told",
        plan=charts.plan_text(trial),
        pipeline=charts.pipeline_text(trial),
        ranks=tuple((rank, rank / highest) for rank in ranks),
        parameters=charts.number(study.trainable_params(trial)),
        cells=tuple(
            (charts.measured(trial.measurements.get(metric)), charts.measured(test.get(metric)))
            for metric in metric_names(study)
        ),
    )


def _examples(study: Study) -> list[tuple[int, int, int, tuple[str, ...]]]:
    """Returns trial, seed, user and texts of the front's examples, none where none were kept."""
    front = {trial.index for trial in study.front()}
    return [
        (one.trial, one.seed, one.user, tuple(map(_printable, one.texts)))
        for one in read_examples(study.folder)
        if one.trial in front
    ]


def _printable(text: str) -> str:
    # Users' texts may hold halves of surrogate pairs, which no file can.
    return text.encode("utf-8", "replace").decode()


def _failures(study: Study) -> list[tuple[str, list[int]]]:
    """Returns the trials that failed, by kind; reasons could quote users and stay in the log."""
    kinds: dict[str, list[int]] = {}
    for trial in study.trials:
        if trial.failure is not None:
            kinds.setdefault(trial.failure.kind, []).append(trial.index)
    return sorted(kinds.items())


def _facts(study: Study) -> list[tuple[str, str]]:
    created, settings = study.created, study.settings
    facts = [
        ("Method", created.method),
        ("Search space", f"{study.space.name}, {study.space.size:,} arms"),
        ("Model asked" if _server(study) else "Base model", str(settings.get("base_model", ""))),
        ("Judge", _judge(study)),
        ("Prices", _prices(_server(study))),
        ("Prices of the judge", _prices(_server(study, "judge"))),
        ("Paid", _paid(study)),
        ("Remote code", "the base model's own, trusted" if _trusting(study) else ""),
        ("Proposer", ", ".join(_proposer(study))),
        ("Initial design", f"{created.initial_trials} trials"),
        ("Reference point", ", ".join(_reference(study))),
        ("Constraints", "; ".join(constraint_texts(study.trials, study.constraints))),
        ("Seed", str(created.seed)),
        ("Test seeds", ", ".join(_test_seeds(study))),
        ("Data", str(settings.get("data_fingerprint", ""))),
        ("Reused", reuse_text(total_reuse(study.trials))),
        ("Workers", _workers(study)),
        ("Ended", study.finished or ""),
        ("Users forgotten since", str(len(study.state.forgotten) or "")),
        ("Started", _started(study)),
        ("Versions", _versions(settings.get("versions"))),
    ]
    return [(label, value) for label, value in facts if value]


def _proposer(study: Study) -> Iterator[str]:
    created = study.created
    yield f"{created.proposer}, preset {created.preset}"
    for name, value in changed_options(created.preset, created.engine).items():
        yield f"{name} {value}"


def _versions(told: object) -> str:
    """Returns the versions of libraries, which Python may tell as a text, too."""
    if isinstance(told, dict):
        return ", ".join(f"{name} {value}" for name, value in told.items())
    return "" if told is None else str(told)


def _server(study: Study, kind: str = "endpoint") -> dict[str, Any]:
    """Returns what is known of a server that the study asks, nothing where it asks none."""
    servers = study.settings.get("servers")
    server = servers.get(kind) if isinstance(servers, dict) else None
    return server if isinstance(server, dict) else {}


def _judge(study: Study) -> str:
    """Returns who judged; a count of words is never called what a model is."""
    told = {metric.partition("@")[0] for metric in metric_names(study)}
    judges = [f"{_server(study, 'judge').get('model')}, a model"] if "win_rate" in told else []
    offline = "win_rate_offline: no judge, an offline count of shared words"
    return "; ".join(judges + [offline] * ("win_rate_offline" in told))


def _prices(server: dict[str, Any]) -> str:
    told = server.get("prompt_price"), server.get("answer_price")
    prices = [f"{price:g}" for price in told if isinstance(price, int | float)]
    if len(prices) < len(told):
        return ""
    shown = " and ".join(prices)
    return f"{shown} {server.get('currency', '')} per million prompt and answer tokens"


def _paid(study: Study) -> str:
    """Returns what the ended trials and tests paid for, by kind."""
    jobs = [trial.measurements for trial in study.trials]
    jobs += [told for tests in study.state.tests.values() for told in tests.values()]
    sums = {
        name: sum(told[name].mean for told in jobs if name in told)
        for name in metric_names(study)
        if name.startswith(("paid_", "judge_paid_"))
    }
    return ", ".join(f"{name} {charts.number(value)}" for name, value in sums.items())


def _trusting(study: Study) -> bool:
    return study.settings.get("trust_remote_code") is True


def _reference(study: Study) -> list[str]:
    return [f"{goal.metric} {charts.number(goal.reference)}" for goal in study.objectives]


def _workers(study: Study) -> str:
    workers = study.settings.get("workers")
    if not isinstance(workers, int):
        return ""
    share = busy_share(study.events(), workers, study.created.initial_trials)
    return f"{workers}" if share is None else f"{workers}, busy {share:.0%} of the search"


def _test_seeds(study: Study) -> list[str]:
    seeds = {seed for tests in study.state.tests.values() for seed in tests}
    return [str(seed) for seed in sorted(seeds)]


def _started(study: Study) -> str:
    moment = datetime.fromtimestamp(study.state.created_at, UTC)
    return moment.strftime("%Y-%m-%d %H:%M UTC")
