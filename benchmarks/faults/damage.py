"""Damage to files: the store cut, bits turned, of a later release; a log lost, a result cut."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cell import Amount
from study_run import ShowError, StudyRun, study_run
from subjects import Subject
from verdict import Verdict, judge

Harm = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Damage:
    """What became of damaged copies of one finished study.

    Attributes:
        samples: How many copies were damaged.
        whole: Those that show what the undamaged study shows.
        refused: Those that the subject does not show, with a message.
        wrong: Those that it shows as something else, without a word.
        message: What it says when it refuses.
    """

    samples: int
    whole: int
    refused: int
    wrong: int
    message: str


def cut_anywhere(content: bytes, chance: random.Random) -> bytes:
    """Returns a beginning of the content, shorter than all of it."""
    return content[: chance.randrange(len(content))]


def turn_a_bit(content: bytes, chance: random.Random) -> bytes:
    """Returns the content with one bit turned."""
    turned = bytearray(content)
    turned[chance.randrange(len(turned))] ^= 1 << chance.randrange(8)
    return bytes(turned)


def damaged(subject: Subject, amount: Amount, harm: Harm) -> Damage:
    """Returns what became of copies of a finished study, each with its store damaged once."""
    chance = random.Random(amount.seed)
    with study_run(subject, amount.size) as run:
        run.finish()
        run.tidy()
        truth = _told(run.show())
        kept = run.place / "kept"
        shutil.copytree(run.folder, kept)
        seen = [_shown_after(run, kept, harm, chance) for _ in range(amount.samples)]
    refusals = [one for one in seen if isinstance(one, str)]
    whole = sum(one == truth for one in seen)
    return Damage(
        samples=len(seen),
        whole=whole,
        refused=len(refusals),
        wrong=len(seen) - whole - len(refusals),
        message=refusals[-1] if refusals else "",
    )


def _shown_after(
    run: StudyRun, kept: Path, harm: Harm, chance: random.Random
) -> dict[str, Any] | str:
    """Returns what a damaged copy shows, or the message."""
    shutil.rmtree(run.folder)
    shutil.copytree(kept, run.folder)
    store = max(run.folder.glob(run.subject.store), key=lambda path: path.stat().st_mtime)
    store.write_bytes(harm(store.read_bytes(), chance))
    try:
        return _told(run.show())
    except ShowError as error:
        return str(error).replace(str(run.folder), "DIR")


def _told(shown: dict[str, Any]) -> dict[str, Any]:
    return {key: shown[key] for key in ("completed", "failed", "values", "best")}


def lost_log(subject: Subject, amount: Amount) -> Iterator[Verdict]:
    """Yields what became of a study whose write-ahead log is gone after its driver was killed."""
    with study_run(subject, amount.size) as run:
        driver = run.start()
        driver.wait_for_trials(4)
        driver.kill()
        run.tidy()
        for log in run.folder.glob(f"{run.subject.store}-*"):
            log.unlink()
        yield judge(run, run.finish())


def newer_schema(subject: Subject, amount: Amount) -> Iterator[Verdict]:
    """Yields what became of a study whose store a later release had written, to all appearance.

    Code and message are those of the driver that met it so; then the store is as it was.
    """
    with study_run(subject, amount.size) as run:
        driver = run.start()
        driver.wait_for_trials(4)
        driver.kill()
        run.tidy()
        store = run.folder / subject.store
        version = _schema_version(store)
        _set_schema_version(store, version + 1)
        refused = run.finish(amount.patience_s)
        _set_schema_version(store, version)
        verdict = judge(run, run.finish())
        message = refused.last_line.replace(str(run.folder), "DIR")
        yield replace(verdict, code=refused.code, message=message)


def _schema_version(store: Path) -> int:
    with contextlib.closing(sqlite3.connect(store)) as connection:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        return version


def _set_schema_version(store: Path, version: int) -> None:
    with contextlib.closing(sqlite3.connect(store)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
        connection.commit()


def half_written_result(subject: Subject, amount: Amount) -> Iterator[Verdict]:
    """Yields what became of a study in whose folder a result of each open trial is half there."""
    with study_run(subject, amount.size) as run:
        driver = run.start()
        driver.wait_for_trials(4)
        driver.kill()
        run.tidy()
        results = sorted((run.folder / "results").glob("search-*.json"))
        whole = results[0].read_bytes()
        for trial in run.show()["running"]:
            file = run.folder / "results" / f"search-{trial:05d}-0.json"
            if not file.exists():
                file.write_bytes(whole[: len(whole) // 2])
        yield judge(run, run.finish())
