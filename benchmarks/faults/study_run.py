"""A study of a subject, from its start through all that befalls it to what is left of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ledger import Entry, read_ledger
from nursery import Forked, nursery_of
from process import MARK, POLL_S, end_all
from subjects import Subject

# ours: ten times what a resumed study takes on a busy machine; past it the study is stuck.
PATIENCE_S = 300.0
# Torch keeps what it compiles for later processes, on purpose.
CACHES = "torchinductor"
# Processes of a driver that has ended have so long to follow it.
FOLLOW_S = 20.0


@dataclass(frozen=True)
class Size:
    """How large a study is.

    Attributes:
        trials: How many it has.
        seconds: How long each takes.
        parallel: How many run side by side.
        faults: What befalls which trial, as `inflict` reads it.
        seed: The study's.
    """

    trials: int = 12
    seconds: float = 0.5
    parallel: int = 2
    faults: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class Ending:
    """How a driver ended.

    Attributes:
        code: Its exit code, as a shell gives it; None where it had not ended in time.
        text: What it printed.
        seconds: How long it ran.
    """

    code: int | None
    text: str
    seconds: float

    @property
    def last_line(self) -> str:
        """The last line that it printed; a remedy is indented below what it is for."""
        return last_line(self.text)


def last_line(text: str) -> str:
    """Returns the last line that is neither empty nor indented, empty where there is none."""
    lines = [line.rstrip() for line in text.splitlines() if line[:1].strip()]
    return lines[-1] if lines else ""


class ShowError(Exception):
    """The subject could not show the study's state; the text is what it said."""


@dataclass
class StudyRun:
    """A study in a folder of its own, with a ledger beside it.

    Attributes:
        subject: Whose study.
        size: How large.
        place: Holds the study's folder, the ledger, the drivers' outputs and temporary files.
        name: The name of the study's folder.
        environment: Variables that its drivers see beside this process' own.
        prefix: A command that fresh drivers are run by, such as one that changes what they may.
        fresh: Drivers are interpreters of their own, and not forked from one that has imported.
        kills: When something was killed, by `time.monotonic()`.
        mark: What its processes carry in their environment.
    """

    subject: Subject
    size: Size
    place: Path
    name: str = "study"
    environment: Mapping[str, str] = field(default_factory=dict)
    prefix: Sequence[str] = ()
    fresh: bool = False
    kills: list[float] = field(default_factory=list)
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    _started: int = 0

    @property
    def folder(self) -> Path:
        """The study's folder."""
        return self.place / self.name

    @property
    def ledger(self) -> Path:
        """What its trials write to."""
        return self.place / "ledger.jsonl"

    @property
    def temporary(self) -> Path:
        """The only place for temporary files that its drivers know; short, for Ray's sockets."""
        return self.place / "t"

    def entries(self) -> list[Entry]:
        """Returns what trials have written so far."""
        return read_ledger(self.ledger)

    def start(self, **variables: str) -> Driver:
        """Starts a driver, which begins the study or goes on with it."""
        self.temporary.mkdir(exist_ok=True)
        self._started += 1
        output = self.place / f"driver-{self._started}.txt"
        variables = self._variables() | variables
        process = self._fresh(output, variables) if self.fresh else self._forked(output, variables)
        return Driver(self, process, output, len(self.entries()), time.monotonic())

    def _arguments(self) -> list[str]:
        size = self.size
        return [
            *self.subject.options,
            *("--folder", str(self.folder), "--ledger", str(self.ledger)),
            *("--trials", str(size.trials), "--seconds", str(size.seconds)),
            *("--parallel", str(size.parallel), "--seed", str(size.seed)),
            *(word for fault in size.faults for word in ("--fault", fault)),
        ]

    def _forked(self, output: Path, variables: Mapping[str, str]) -> Forked:
        nursery = nursery_of(str(self.subject.path), self.subject.modules)
        return nursery.start(self._arguments(), variables, str(output))

    def _fresh(self, output: Path, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
        with output.open("wb") as file:
            return subprocess.Popen(
                [*self.prefix, sys.executable, str(self.subject.path), *self._arguments()],
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=dict(variables),
            )

    def finish(self, patience_s: float = PATIENCE_S, **variables: str) -> Ending:
        """Starts a driver and returns how it ended."""
        return self.start(**variables).ending(patience_s)

    def show(self) -> dict[str, Any]:
        """Asks the subject for the study's state.

        Returns:
            What it tells.

        Raises:
            ShowError: It tells none.
        """
        shown = subprocess.run(
            [
                *(sys.executable, str(self.subject.path), *self.subject.options),
                *("--show", "--folder", str(self.folder)),
            ],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            env=self._variables(),
        )
        if shown.returncode:
            raise ShowError(last_line(shown.stderr) or f"exit code {shown.returncode}")
        state: dict[str, Any] = json.loads(shown.stdout.splitlines()[-1])
        return state

    def tidy(self) -> tuple[list[str], list[str]]:
        """Ends what is left of the study's processes.

        Returns:
            The processes that had not ended by themselves, and the temporary files left behind.
        """
        processes = end_all(self.mark, FOLLOW_S)
        found = {path.name for path in self.temporary.glob("*")}
        files = sorted(name for name in found if not name.startswith(CACHES))
        return processes, files

    def _variables(self) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        own = {
            MARK: self.mark,
            "TMPDIR": str(self.temporary),
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
        }
        return clean | own | dict(self.environment)


@dataclass
class Driver:
    """A driver that has been started."""

    run: StudyRun
    process: subprocess.Popen[bytes] | Forked
    output: Path
    entries_before: int
    started: float

    @property
    def pid(self) -> int:
        """The process that was started; it leads a group and a session."""
        return self.process.pid

    @property
    def text(self) -> str:
        """What it has printed so far."""
        return self.output.read_text(encoding="utf-8", errors="replace")

    def news(self) -> list[Entry]:
        """Returns what trials have written since it was started."""
        return self.run.entries()[self.entries_before :]

    def alive(self) -> bool:
        """Returns whether it still runs."""
        return self.process.poll() is None

    def wait_for_trials(self, count: int = 1, timeout_s: float = PATIENCE_S) -> bool:
        """Returns whether so many trials began while it was alive."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end and self.alive():
            if sum(entry.event == "begin" for entry in self.news()) >= count:
                return True
            time.sleep(POLL_S)
        return False

    def kill(self) -> bool:
        """Sends it SIGKILL; returns whether it was alive."""
        was_alive = self.alive()
        self.process.kill()
        self.run.kills.append(time.monotonic())
        self.process.wait()
        return was_alive

    def ending(self, patience_s: float = PATIENCE_S) -> Ending:
        """Waits for its end, which comes by force when patience is over."""
        code: int | None
        try:
            code = self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            code = None
            self.process.kill()
            self.process.wait()
        if code is not None and code < 0:
            code = 128 - code
        return Ending(code, self.text, time.monotonic() - self.started)


@contextmanager
def study_run(subject: Subject, size: Size, **given: Any) -> Iterator[StudyRun]:
    """Yields a study in a temporary folder; its processes end with the block.

    Args:
        subject: Whose study.
        size: How large.
        **given: Other fields of `StudyRun`.

    Yields:
        StudyRun: The study.
    """
    place = Path(tempfile.mkdtemp(prefix="mf-", dir="/tmp"))
    run = StudyRun(subject, size, place, **given)
    try:
        yield run
    finally:
        end_all(run.mark, 0.0)
        shutil.rmtree(place, ignore_errors=True)
