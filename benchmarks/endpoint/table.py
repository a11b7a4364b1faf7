"""The table of the misbehaving server."""

from __future__ import annotations

from typing import Any

_HEAD = """\
# A chat server that misbehaves

`{command}`

{machine}

A server on the loopback address misbehaves in {share:.0%} of requests, at random (seed {seed});
the client has 8 questions under way, 2 s for an attempt, 6 attempts. A client that gives up or is
killed is started again on the same folder. In the end all questions are asked once more, which
costs no request.

- **answered**: questions whose answer lies on the client's disk in the end.
- **paid twice**: requests for an answer that lay there already, by the server's ledger.
- **counted**: tokens by the server's ledger, those of answers that never came included.
- **booked**: tokens by the client's account, upper bounds where no answer came.

| misbehaviour | questions | answered | starts | requests | misbehaved | paid twice | counted \
| booked | budget | s | verdict |
|---|---|---|---|---|---|---|---|---|---|---|---|
"""


def markdown(result: dict[str, Any]) -> str:
    """Returns the result as a page."""
    return _HEAD.format(**result) + "\n".join(map(_row, result["runs"])) + "\n"


def _row(run: dict[str, Any]) -> str:
    numbers = ("questions", "answered", "starts", "requests", "misbehaved", "paid_twice",
               "counted", "booked", "budget")  # fmt: skip
    verdict = "holds" if run["holds"] else "FAILS"
    end = "; stopped before the budget" if run["stopped"] else ""
    cells = " | ".join(f"{run[name]:,}" for name in numbers)
    return f"| {run['kind']} | {cells} | {run['seconds']:.1f} | {verdict}{end} |"
