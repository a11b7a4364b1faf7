"""The soak's table."""

from __future__ import annotations

from typing import Any


def markdown(result: dict[str, Any]) -> str:
    """Returns the result as a page."""
    return "\n".join(["# Soak", "", *(line for run in result["runs"] for line in _run(run))])


def _run(run: dict[str, Any]) -> list[str]:
    verdict = run["store"]
    fates = ", ".join(f"{count} {fate}" for fate, count in sorted(verdict["attempts"].items()))
    faults = verdict["faults"] or ["none"]
    return [
        f"## {run['trials']} trials, proposer `{run['proposer']}`, {run['parallel']} workers, "
        f"seed {run['seed']}",
        "",
        f"`{run['command']}`",
        "",
        run["machine"],
        "",
        f"{run['seconds']:.0f} s. Attempts as the trials noted them: {fates}; "
        f"{verdict['workers']} worker processes. In the store: {verdict['completed']} completed, "
        f"{verdict['failed']} failed. Faults of the store against the ledger: "
        f"{'; '.join(faults)}.",
        "",
        "Lines are fitted over the last three quarters of the trials.",
        "",
        "| quantity | there first | at the end | per 1,000 trials | verdict |",
        "|---|---|---|---|---|",
        *(_figure(figure) for figure in run["figures"]),
        "",
    ]


def _figure(figure: dict[str, Any]) -> str:
    line = figure["line"]
    verdict = "not judged" if figure["most"] is None else "within" if figure["flat"] else "above"
    bound = "" if figure["most"] is None else f" (at most {figure['most']:+g})"
    return (
        f"| {figure['name']} | {figure['first']:.1f} | {figure['last']:.1f} "
        f"| {line['per_thousand']:+.2f} ± {line['error']:.2f} | {verdict}{bound} |"
    )
