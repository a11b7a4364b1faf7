"""The report's charts as plain Plotly figures.

A colour such as `@accent` is a name that the page resolves, light or dark.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from milp_search.core.trial import Measurement, Objective, Trial
from milp_search.study.export import finite
from milp_search.study.influence import active_layers, influence
from milp_search.study.number_text import number_text
from milp_search.study.outcome import completed
from milp_search.study.study import Study

Figure = dict[str, Any]

_UNKNOWN = "\N{EN DASH}"

_BETTER = {"minimize": "lower is better", "maximize": "higher is better"}

# What an origin's trials look like; origins beyond these share `_OTHER`.
_INITIAL = {"color": "@muted", "symbol": "circle-open", "size": 9, "line": {"width": 1.5}}
_MODELLED = {"color": "@accent", "opacity": 0.38, "symbol": "circle", "size": 9}
_OTHER = {"color": "@muted", "opacity": 0.6, "symbol": "diamond", "size": 8}
_BROKEN = {"color": "@muted", "symbol": "x-thin-open", "size": 8}
_STYLES = {
    "sobol": _INITIAL,
    "random": _INITIAL,
    "saas_nehvi": _MODELLED,
    "map_saas": _MODELLED,
}


def number(value: float | None) -> str:
    """Returns a number as people read it: four digits, large ones with separators."""
    return _UNKNOWN if value is None else number_text(value, zeros=True)


def measured(value: Measurement | None) -> str:
    """Returns a measurement with its standard error, where it has one."""
    if value is None:
        return _UNKNOWN
    if not value.sem:
        return number(value.mean)
    return f"{number(value.mean)} ± {value.sem:.2g}"


def plan_text(trial: Trial) -> str:
    """Returns what a trial trains, in a line; empty where it has no plan."""
    if trial.plan is None:
        return ""
    adapter = trial.plan.adapter
    if not adapter.ranks:
        return pipeline_text(trial)
    layers = f"{len(adapter.active_layers)} of {len(adapter.ranks)} layers"
    return f"rank {adapter.total_rank} in {layers} · {pipeline_text(trial)}"


def pipeline_text(trial: Trial) -> str:
    """Returns a plan's time splits T, communities c, retrieved items k and more that matters."""
    if trial.plan is None:
        return ""
    plan, parts = trial.plan, []
    if plan.time_splits:
        parts.append(f"T {plan.time_splits}")
    if plan.communities:
        parts.append(f"c {plan.communities}")
    parts.append(f"k {plan.retrieved_items}")
    if plan.profile:
        parts.append("profile")
    if plan.summary_lines:
        parts.append(f"{plan.summary_lines} lines")
    if plan.scope != "user":
        parts.append(f"one adapter per {plan.scope}" if plan.scope != "all" else "one adapter")
    return " · ".join(parts)


def front_charts(study: Study) -> list[Figure]:
    """Returns a scatter of the completed trials for each pair of objectives, none without trials.

    A study of one objective shows it over the trials' numbers.
    """
    if not completed(study.trials):
        return []
    if len(study.objectives) == 1:
        return [_single(study)]
    return [_pair(study, x, y) for x, y in combinations(study.objectives, 2)]


def trace_chart(study: Study) -> Figure | None:
    """Returns the hypervolume after each trial, the end of the initial design marked.

    None before references are known.
    """
    trace = [finite(value) for value in study.hypervolume_trace()]
    if not trace:
        return None
    initial = study.created.initial_trials
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": list(range(1, len(trace) + 1)),
        "y": trace,
        "line": {"color": "@accent", "width": 2.5, "shape": "hv"},
        "fill": "tozeroy",
        "fillcolor": "@accent-wash",
        "hovertemplate": "after %{x} trials: %{y:.4g}<extra></extra>",
    }
    layout = _layout(_axis("trials"), {**_axis("hypervolume"), "rangemode": "tozero"})
    if initial < len(trace):
        layout |= _mark(initial + 0.5, "initial design ends")
    return {"data": [line], "layout": layout}


def mask_chart(study: Study) -> Figure:
    """Returns the realised rank of each layer, a row per front trial and one for their mean."""
    planned = [(trial, trial.plan.adapter.ranks) for trial in by_first(study) if trial.plan]
    rows = [[float(rank) for rank in ranks] for _, ranks in planned]
    labels = [f"trial {trial.index}" for trial, _ in planned]
    mean = [sum(column) / len(column) for column in zip(*rows, strict=True)]
    grid = {
        "type": "heatmap",
        # Plotly draws rows upwards; the best of the first objective belongs on top.
        "z": [mean, *reversed(rows)],
        "y": ["<b>mean</b>", *reversed(labels)],
        "x": [str(layer) for layer in range(len(mean))],
        "xgap": 3,
        "ygap": 3,
        "zmin": 0,
        "colorscale": [[0, "@tile"], [1e-9, "@accent-faint"], [1, "@accent"]],
        "colorbar": {
            "title": {"text": "rank", "side": "right"},
            "thickness": 10,
            "outlinewidth": 0,
        },
        "hovertemplate": "%{y}, layer %{x}: rank %{z:.3g}<extra></extra>",
    }
    layout = _layout(
        {**_axis("layer"), "type": "category", "showgrid": False, "ticks": ""},
        {"type": "category", "showgrid": False, "ticks": "", "automargin": True},
    )
    return {"data": [grid], "layout": {**layout, "height": 130 + 26 * (len(rows) + 1)}}


def influence_chart(study: Study) -> Figure | None:
    """Returns how each choice goes with each objective: Spearman's rank correlation.

    None where there are too few trials to say.
    """
    names, table = influence(study)
    if not names:
        return None
    goals = [goal.metric for goal in study.objectives]
    grid = {
        "type": "heatmap",
        "z": [list(row) for row in reversed(table)],
        "y": [html.escape(name) for name in reversed(names)],
        "x": [html.escape(goal) for goal in goals],
        "text": [[_signed(value) for value in row] for row in reversed(table)],
        "texttemplate": "%{text}",
        "zmin": -1,
        "zmax": 1,
        "xgap": 3,
        "ygap": 3,
        "colorscale": [[0, "@contrast-soft"], [0.5, "@tile"], [1, "@accent-soft"]],
        "showscale": False,
        "textfont": {"color": "@ink"},
        "hovertemplate": "%{y} and %{x}: %{text}<extra></extra>",
        "hoverongaps": False,
    }
    layout = _layout(
        {"type": "category", "showgrid": False, "ticks": "", "side": "top"},
        {"type": "category", "showgrid": False, "ticks": "", "automargin": True},
    )
    return {"data": [grid], "layout": {**layout, "height": 90 + 38 * len(names)}}


def by_first(study: Study) -> list[Trial]:
    """Returns the front's trials, the best in the first objective first."""
    goal = study.objectives[0]
    return sorted(
        study.front(),
        key=lambda trial: trial.measurements[goal.metric].mean,
        reverse=goal.direction == "maximize",
    )


def _pair(study: Study, x: Objective, y: Objective) -> Figure:
    front, eligible = by_first(study), study.eligible()
    rest = [trial for trial in eligible if trial not in front]
    done = completed(study.trials)
    broken = [trial for trial in done if trial not in eligible]
    traces = [_points(study, broken, x, y, _broken_style())] if broken else []
    traces += [
        _points(study, [t for t in rest if t.origin == origin], x, y, _dots(origin))
        for origin in dict.fromkeys(trial.origin for trial in rest)
    ]
    if front:
        stairs = len(study.objectives) == 2 and len(front) > 1
        traces.append(_points(study, front, x, y, _front_style(stairs=stairs)))
    layout = _layout(_goal_axis(x, done), _goal_axis(y, done))
    return {"data": traces, "layout": {**layout, "height": 460, "showlegend": True}}


def _single(study: Study) -> Figure:
    goal, done, eligible = study.objectives[0], completed(study.trials), study.eligible()
    broken = [trial for trial in done if trial not in eligible]
    groups = [(eligible, {"marker": {"color": "@accent", "size": 9}}), (broken, _broken_style())]
    traces = [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [trial.index for trial in trials],
            "y": [trial.measurements[goal.metric].mean for trial in trials],
            "error_y": _errors(trials, goal, style),
            "text": [_tooltip(study, trial) for trial in trials],
            "hovertemplate": "%{text}<extra></extra>",
            **style,
        }
        for trials, style in groups
        if trials
    ]
    layout = _layout(_axis("trial"), _goal_axis(goal, done))
    return {"data": traces, "layout": {**layout, "height": 400, "showlegend": bool(broken)}}


def _points(
    study: Study, trials: Sequence[Trial], x: Objective, y: Objective, style: Figure
) -> Figure:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [trial.measurements[x.metric].mean for trial in trials],
        "y": [trial.measurements[y.metric].mean for trial in trials],
        "error_x": _errors(trials, x, style),
        "error_y": _errors(trials, y, style),
        "text": [_tooltip(study, trial) for trial in trials],
        "hovertemplate": "%{text}<extra></extra>",
        **style,
    }


def _dots(origin: str) -> Figure:
    return {"name": html.escape(origin) or "told", "marker": _STYLES.get(origin, _OTHER)}


def _broken_style() -> Figure:
    return {"name": "breaks a constraint", "marker": _BROKEN}


def _front_style(*, stairs: bool) -> Figure:
    marker = {"color": "@accent", "size": 12, "line": {"color": "@paper", "width": 1.5}}
    style: Figure = {"name": "Pareto front", "marker": marker}
    if not stairs:
        return style
    # The front is sorted from the best x to the worst, so that y only improves: the border of
    # what is dominated goes along x first.
    line = {"color": "@accent", "width": 1.5, "shape": "hv", "dash": "dot"}
    return {**style, "mode": "lines+markers", "line": line}


def _errors(trials: Sequence[Trial], goal: Objective, style: Figure) -> Figure:
    sems = [trial.measurements[goal.metric].sem or 0.0 for trial in trials]
    front = "line" in style or style.get("name") == "Pareto front"
    return {
        "type": "data",
        "array": sems,
        "visible": any(sems),
        "color": "@accent" if front else "@rule",
        "thickness": 1.2 if front else 0.8,
        "width": 0,
    }


def _tooltip(study: Study, trial: Trial) -> str:
    lines = [f"<b>trial {trial.index}</b> · {html.escape(trial.origin) or 'told'}"]
    for metric in study.required:
        lines.append(f"{html.escape(metric)} {measured(trial.measurements[metric])}")
    ranks = "" if trial.plan is None else " ".join(map(str, trial.plan.adapter.ranks))
    lines.append(plan_text(trial))
    if ranks and len(ranks) <= 80:
        lines.append(f"ranks {ranks}")
    elif ranks:
        lines.append(f"{active_layers(trial)} layers on")
    return "<br>".join(line for line in lines if line)


def _goal_axis(goal: Objective, trials: Sequence[Trial]) -> Figure:
    axis = _axis(f"{html.escape(goal.metric)} <i>({_BETTER[goal.direction]})</i>")
    values = [trial.measurements[goal.metric].mean for trial in trials]
    # ours: counts over more than two decades are read on a logarithmic axis.
    wide = bool(values) and min(values) > 0 and max(values) > 100 * min(values)
    return {**axis, "type": "log" if wide else "linear"}


def _axis(title: str) -> Figure:
    return {"title": {"text": title, "standoff": 14}, "automargin": True}


def _layout(x: Figure, y: Figure) -> Figure:
    return {"xaxis": x, "yaxis": y, "height": 340}


def _mark(x: float, text: str) -> Figure:
    line = {"color": "@muted", "width": 1, "dash": "dot"}
    at_top = {"yref": "paper", "y": 1.0, "yanchor": "bottom", "showarrow": False}
    return {
        "shapes": [
            {"type": "line", "x0": x, "x1": x, "yref": "paper", "y0": 0, "y1": 1, "line": line}
        ],
        "annotations": [{"x": x, "text": text, "font": {"color": "@muted", "size": 12}, **at_top}],
    }


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.2f}"
