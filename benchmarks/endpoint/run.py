"""What is lost, paid twice or spent beyond the budget when a chat server misbehaves?

    python benchmarks/endpoint/run.py --out benchmarks/results/endpoint

The client of the black-box half asks a real HTTP server, which misbehaves at random and keeps a
ledger of its own. A client that gives up, or is killed, is started again on the same folder, as a
resumed study is. Exit code 1 says that something was lost, paid twice or overspent.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import beside
from asking import DONE, OUT_OF_ORDER, USED_UP, ask_all, questions
from faulty import KINDS, Ledger, behaving
from machine import machine, machine_text
from table import markdown

from endpoint.server import serving
from milp_search.endpoint.client import most_tokens
from milp_search.endpoint.token_budget import TokenBudget

_MOST_STARTS = 40
_KILLED = -9


@dataclass(frozen=True)
class Figures:
    """What one kind of misbehaviour came to.

    Attributes:
        kind: The misbehaviour.
        questions: How many were to be answered.
        answered: How many were, in the end.
        starts: How often a client was started; one that goes through needs one.
        requests: How often the server was asked.
        misbehaved: How often it misbehaved.
        paid_twice: How often it was asked for what lay on the client's disk already.
        counted: Tokens by the server's ledger.
        booked: Tokens by the client's account.
        budget: The most that it was allowed.
        stopped: Whether the client stopped for the sake of the budget.
        seconds: How long it all took.
    """

    kind: str
    questions: int
    answered: int
    starts: int
    requests: int
    misbehaved: int
    paid_twice: int
    counted: int
    booked: int
    budget: int
    stopped: bool
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether nothing was lost, paid twice or overspent."""
        whole = self.stopped or self.answered == self.questions
        return whole and not self.paid_twice and self.counted <= self.booked <= self.budget


Start = Callable[[Path, str, int, int], int]


def measured(
    kind: str, kinds: list[str], count: int, budget: int, share: float, seed: int,
    start: Start = ask_all,
) -> Figures:  # fmt: skip
    """Returns what a client comes to that is started until all is answered or the budget used."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ledger, begun = Ledger(folder), time.monotonic()
        with serving() as server:
            server.default = behaving(ledger, kinds, share, seed)
            codes: list[int] = []
            while len(codes) < _MOST_STARTS and (codes or [OUT_OF_ORDER])[-1] not in (
                DONE, USED_UP
            ):  # fmt: skip
                codes.append(start(folder, server.url, count, budget))
            seconds = time.monotonic() - begun
            if codes[-1] == DONE:
                # Once more: all lies on the disk.
                ask_all(folder, server.url, count, budget)
        answered = len(list((folder / "responses").glob("*/*.json")))
        booked = TokenBudget(folder / "tokens.json").spent().total
    return Figures(
        kind, count, answered, len(codes), ledger.requests, ledger.misbehaved, ledger.kept_already,
        ledger.tokens, booked, budget, codes[-1] == USED_UP, round(seconds, 1),
    )  # fmt: skip


def killing(seconds: list[float]) -> Start:
    """Returns how a client is started as a process that is killed after so long, then in peace."""
    left = [*seconds]

    def start(folder: Path, url: str, count: int, budget: int) -> int:
        arguments = [str(folder), url, str(count), str(budget)]
        process = subprocess.Popen([sys.executable, str(beside.HERE / "asking.py"), *arguments])
        if not left:
            return process.wait()
        _wait_for_requests(folder, process)
        time.sleep(left.pop(0))
        process.kill()
        return process.wait()

    return start


def _wait_for_requests(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Waits until the client, which takes its time to start, has set something aside."""
    file = folder / "tokens.json"
    before = file.stat().st_mtime_ns if file.exists() else 0
    while process.poll() is None and (not file.exists() or file.stat().st_mtime_ns == before):
        time.sleep(0.01)


def main() -> int:
    """Measures every kind, prints and writes the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/endpoint"))
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--share", type=float, default=0.3, help="of requests that go wrong")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    facts = machine_text(machine("cpu"))
    every, count = [*KINDS], given.questions
    # Attempts that come to nothing are booked at most; four of them are allowed for each.
    ample = 5 * sum(map(most_tokens, questions(count)))
    common = (given.share, given.seed)
    runs = [measured("nothing", every, count, ample, 0.0, given.seed)]
    runs += [measured(kind, [kind], count, ample, *common) for kind in every]
    runs.append(measured("all of these", every, count, ample, *common))
    tight = runs[-1].booked // 2
    runs.append(measured("all, half the budget", every, count, tight, *common))
    kills = killing([0.3, 0.7, 1.1, 1.5, 1.9])
    runs.append(measured("all, client killed 5 times", every, count, ample, *common, kills))
    result = {
        "command": " ".join(["python", "benchmarks/endpoint/run.py", *sys.argv[1:]]),
        "machine": facts,
        "share": given.share,
        "seed": given.seed,
        "runs": [{**asdict(run), "holds": run.holds} for run in runs],
    }
    text = markdown(result)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    given.out.with_suffix(".md").write_text(text)
    print(text)
    return int(not all(run.holds for run in runs))


if __name__ == "__main__":
    sys.exit(main())
