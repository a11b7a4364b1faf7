"""All faults: how each is inflicted, and on which subjects it can be."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cell import Amount, Figures
from clocks import HOUR_S, clock_set
from damage import cut_anywhere, damaged, half_written_result, lost_log, newer_schema, turn_a_bit
from drivers import many_drivers, second_driver
from kills import driver_kills, group_kills, kills_of_both, worker_kills
from places import full_disk, odd_path, read_only_folder
from signals import stopped
from subjects import Subject
from trial_faults import trial_fault
from verdict import Verdict

Inflict = Callable[[Subject, Amount], Iterator[Verdict]]


@dataclass(frozen=True)
class Fault:
    """A row of the table.

    Attributes:
        name: What the command line calls it.
        title: What the table calls it.
        figures: Inflicts it and returns what the table shows.
        applies: Whether a subject can meet it.
    """

    name: str
    title: str
    figures: Callable[[Subject, Amount], dict[str, Any]]
    applies: Callable[[Subject], bool] = lambda _: True


def _studies(inflict: Inflict, *, kills: bool = False) -> Callable[..., dict[str, Any]]:
    def figures(subject: Subject, amount: Amount) -> dict[str, Any]:
        verdicts = [*inflict(subject, amount)]
        return Figures.of(verdicts, sum(one.kills for one in verdicts) if kills else 0).as_dict()

    return figures


def _harmed(harm: Callable[..., bytes]) -> Callable[..., dict[str, Any]]:
    return lambda subject, amount: asdict(damaged(subject, amount, harm))


def _has_workers(subject: Subject) -> bool:
    return not subject.trials_in_driver


def _is_ours(subject: Subject) -> bool:
    return subject.twin is not None


def _has_log(subject: Subject) -> bool:
    return subject.store.endswith((".sqlite3", ".db"))


def _kill_rows() -> Iterator[Fault]:
    yield Fault("kill-driver", "driver SIGKILL", _studies(driver_kills, kills=True))
    group = _studies(group_kills, kills=True)
    yield Fault("kill-group", "SIGKILL of the driver's whole group", group, _has_workers)
    worker = _studies(worker_kills, kills=True)
    yield Fault("kill-worker", "worker SIGKILL", worker, _has_workers)
    both = _studies(kills_of_both, kills=True)
    yield Fault("kill-both", "driver and worker SIGKILL at once", both, _has_workers)


def _trial_rows() -> Iterator[Fault]:
    what = {
        "raise": "raises",
        "nan": "returns NaN",
        "inf": "returns infinity",
        "hang": "hangs",
        "freeze": "hangs with the interpreter held",
        "exit": "kills its process",
        "oom": "runs out of memory",
        "print": "prints 16 MiB",
    }
    for kind, words in what.items():
        yield Fault(kind, f"trial {words}, once", _studies(trial_fault(kind)))
    for kind in ("raise", "exit", "hang"):
        figures = _studies(trial_fault(kind, always=True))
        yield Fault(f"{kind}-always", f"trial {what[kind]}, always", figures)


def _signal_rows() -> Iterator[Fault]:
    for number in (signal.SIGINT, signal.SIGTERM):
        for group in (False, True):
            for times in (1, 2):
                whom = "group" if group else "driver"
                count = "twice" if times == 2 else "once"
                yield Fault(
                    f"{number.name.lower()}-{whom}-{count}",
                    f"{number.name} {count}, to the {whom}",
                    _studies(stopped(number, times=times, group=group)),
                )


def _other_rows() -> Iterator[Fault]:
    yield Fault("two-drivers", "a second driver on the folder", _studies(second_driver))
    yield Fault("ten-drivers", "ten drivers at once on a new folder", _studies(many_drivers(10)))
    yield Fault("full-disk", "disk full, then room again", _studies(full_disk))
    yield Fault("read-only", "folder read-only, then not", _studies(read_only_folder))
    yield Fault("clock-on", "clock set an hour on", _studies(clock_set(HOUR_S)))
    yield Fault("clock-back", "clock set an hour back", _studies(clock_set(-HOUR_S)))
    yield Fault("odd-path", "path with blanks and other scripts", _studies(odd_path))
    yield Fault("lost-log", "write-ahead log lost", _studies(lost_log), _has_log)
    half = _studies(half_written_result)
    yield Fault("half-result", "result file half written", half, _is_ours)
    later = _studies(newer_schema)
    yield Fault("newer-schema", "store of a later release", later, _is_ours)
    yield Fault("cut-store", "store cut at any byte", _harmed(cut_anywhere))
    yield Fault("bit-flip", "one bit of the store turned", _harmed(turn_a_bit))


FAULTS: Mapping[str, Fault] = {
    one.name: one for rows in (_kill_rows, _trial_rows, _signal_rows, _other_rows) for one in rows()
}
