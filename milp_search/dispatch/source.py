"""Turns a study into jobs: the search, retries, then the front's final tests."""

from __future__ import annotations

import json
import logging
import shutil
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, Literal, final

from milp_search.core.private_files import refuse_link
from milp_search.core.trial import Failure, Trial, TrialStatus
from milp_search.dispatch.asking import Asking
from milp_search.dispatch.checkpoints import drop_checkpoints, remove_empty, sweep_checkpoints
from milp_search.dispatch.folders import ADAPTERS, RESULTS
from milp_search.dispatch.jobs import Job, Outcome, Pack, job_from_dict, outcome_from_dict
from milp_search.dispatch.memory import plans_that_fit, worker_memory_mib
from milp_search.dispatch.watchdog import hung, left_watches
from milp_search.search.proposal import SpaceExhausted
from milp_search.space.row_space import RowSpace
from milp_search.study.reuse import reuse_text
from milp_search.study.spec import DispatchSettings, StudySpec
from milp_search.study.study import Study

# How often a job is tried again after each kind of failure, whatever else befell it.
# A driver may be killed for many reasons that are none of a trial's: it has more patience.
RETRIES = {
    "lost_driver": 9,
    "lost_worker": 3,
    "out_of_memory": 1,
    "exception": 1,
    "hang": 1,
    "non_finite": 0,
    "refused": 0,
}

# ours: progress, and a gentle stop, come once a pack; more plans gain little.
LARGEST_PACK = 8

_logger = logging.getLogger(__name__)


def largest_pack(settings: DispatchSettings, queued: int) -> int:
    """Returns how many of the queued jobs a worker may take at once.

    `auto` gives each worker its share, so that none stands still.
    """
    if settings.pack != "auto":
        return settings.pack
    workers = 1 if settings.local else settings.parallel
    return max(min(-(-queued // workers), LARGEST_PACK), 1)


@final
class StudySource:
    """A `JobSource` over a study: everything it hands out is in the store first."""

    def __init__(self, study: Study, spec: StudySpec, on_change: Callable[[], None] | None = None):
        self.study, self.spec = study, spec
        self.stopping = False  # once true, no new job is handed out
        self._on_change = on_change or (lambda: None)
        self._queue: deque[Job] = deque()
        self._largest = 1  # how many jobs of the queue may go together
        self._running: set[str] = set()
        # By which failure the attempt before was lost, for trials that are to begin another;
        # and the kinds of failure of final tests, of which the store tells only the good end.
        self._after: dict[int, Failure] = {}
        self._lost_tests: dict[tuple[int, int], list[str]] = defaultdict(list)
        self._exhausted = False
        self._tests_queued = False
        self._asking = Asking(study)

    def adopt(self) -> None:
        """Takes over what an earlier driver left: results on disk first, then unfinished trials.

        An ask ahead that the earlier driver had begun is made before: with what it knew then.
        """
        ahead = self._asked_again()
        for job, outcome in self._left():
            # A final test that failed is begun anew, with all others, when the search is over.
            lost = job.kind == "test" and outcome.failure is not None
            if not lost and not self._known(job):
                self.done(job, outcome)
        sweep_checkpoints(self.study)
        queued = {job.trial for job in self._queue}
        self._queue.extend(
            self._search_job(trial, self._next_attempt(trial))
            for trial in self.study.pending
            if trial.index not in queued and trial not in ahead
        )
        self._queue.extend(self._search_job(trial, 0) for trial in ahead)
        self._largest = largest_pack(self.spec.dispatch, len(self._queue))

    @property
    def busy(self) -> bool:
        """Whether jobs are out."""
        return bool(self._running)

    @property
    def finished(self) -> bool:
        """Whether there will be no more jobs."""
        if self._running:
            return False
        return self.stopping or (self._tests_queued and not self._queue)

    def next(self) -> Pack:
        """Returns the next pack, empty while a job has to end before the next is known."""
        if self.stopping:
            return ()
        self._fill()
        pack = tuple(self._queue.popleft() for _ in range(self._pack_size()))
        for job in pack:
            if job.kind != "test":
                self.study.start(job.trial, job.attempt, after=self._after.pop(job.trial, None))
            self._running.add(job.name)
        if pack and not self._queue and self._may_look_ahead:
            self._asking.begin(self._missing, ahead=True)
        return pack

    def done(self, job: Job, outcome: Outcome) -> None:
        """Takes a job's outcome: tells the study, or queues another attempt."""
        self._running.discard(job.name)
        if outcome.failure is not None:
            # Its pack may have come to grief after it had ended: others were at work still. A
            # job that failed itself has its failure on disk.
            outcome = _kept(self.study.folder, job) or outcome
        if outcome.failure is None:
            self._succeeded(job, outcome)
            over = True
        else:
            over = not self._lost(job, outcome.failure, outcome.duration_s)
        if over:
            drop_checkpoints(self.study.folder, job)
        if over and not self._running:
            remove_empty(self.study.folder)
        self._on_change()

    def _fill(self) -> None:
        """Queues the next search jobs, or the final tests once every trial has ended."""
        if self._queue or (self._asking.under_way and self._running and not self._asking.ready):
            return
        if self._asking.under_way or not self._search_over:
            if not self._asking.under_way:
                self._asking.begin(self._missing, ahead=False)
            self._queue.extend(self._search_job(trial, 0) for trial in self._taken())
        elif not self.study.pending and not self._tests_queued:
            self._tests_queued = True
            self._queue.extend(self._test_jobs())
        self._largest = largest_pack(self.spec.dispatch, len(self._queue))

    def _pack_size(self) -> int:
        """Returns how many jobs, from the head of the queue on, go together."""
        head = list(islice(self._queue, self._largest))
        # A job that is tried again goes alone: its trouble may have been its neighbours, or it
        # theirs.
        fresh = [job.plan for job in takewhile(lambda job: job.attempt == 0, head)]
        if fresh and self.spec.dispatch.pack == "auto":
            created = self.study.created
            users = created.max_communities or 1
            return plans_that_fit(fresh, users, created.shape, self._memory_mib)
        return len(fresh) or len(head[:1])

    @cached_property
    def _memory_mib(self) -> float:
        return worker_memory_mib(self.spec.dispatch)

    @property
    def _search_over(self) -> bool:
        return self._exhausted or len(self.study.trials) >= self.spec.budget.trials

    @property
    def _of_rows(self) -> bool:
        """Whether the trials are the rows of a table, which are tested and nothing else."""
        return isinstance(self.study.space, RowSpace)

    @property
    def _may_look_ahead(self) -> bool:
        dispatch = self.spec.dispatch
        # In the process that trains, both would set the same libraries' threads and warnings.
        look_ahead = dispatch.look_ahead and not dispatch.local and not self.stopping
        return look_ahead and not self._search_over and not self._asking.under_way

    @property
    def _missing(self) -> int:
        """How many trials the next ask is for."""
        return min(self.spec.batch, self.spec.budget.trials - len(self.study.trials))

    def close(self) -> None:
        """Waits for what is still being made; call it when no more jobs are wanted."""
        self._asking.settle()

    def _asked_again(self) -> list[Trial]:
        """Returns the trials of an ask ahead that an earlier driver began and did not take."""
        unanswered = self.study.unanswered_look()
        if unanswered is None or self._search_over:
            return []
        look, count = unanswered
        try:
            return self.study.take(look, look.propose(min(count, self._missing)))
        except SpaceExhausted:
            return []

    def _taken(self) -> list[Trial]:
        """Returns the trials that were asked for, none where the space has no more."""
        try:
            return self._asking.take()
        except SpaceExhausted:
            self._exhausted = True
            _logger.info("every plan of the space has been tried; the search ends early")
            return []

    def _next_attempt(self, trial: Trial) -> int:
        last = self.study.attempt(trial.index)
        return 0 if last is None else last + 1

    def _search_job(self, trial: Trial, attempt: int) -> Job:
        assert trial.plan is not None  # a study with a training half has plans
        kind: Literal["search", "row"] = "row" if self._of_rows else "search"
        halvings = self.study.state.lost.get(trial.index, ()).count("out_of_memory")
        return Job(kind, trial.index, attempt, trial.plan, self._seed(trial), halvings)

    def _seed(self, trial: Trial) -> int:
        own = None if trial.plan is None else trial.plan.seed
        return self.spec.seed if own is None else own

    def _test_jobs(self) -> list[Job]:
        if self._of_rows:
            return []
        return [
            Job("test", trial.index, 0, trial.plan, seed)
            for trial in self.study.front()
            for seed in self.spec.test_seeds
            if trial.plan is not None and seed not in self.study.tests(trial.index)
        ]

    def _succeeded(self, job: Job, outcome: Outcome) -> None:
        if job.kind == "test":
            if job.seed in self.study.tests(job.trial):
                return
            self.study.record_test(job.trial, job.seed, outcome.measurements)
            return
        self.study.tell(
            job.trial,
            outcome.measurements,
            outcome.duration_s,
            pack=outcome.pack,
            reused=outcome.reused,
        )
        _logger.info(
            "trial %d completed in %.1f s, in a pack of %d; reused: %s",
            job.trial,
            outcome.duration_s or 0.0,
            outcome.pack,
            reuse_text(outcome.reused) or "nothing",
        )
        self._prune()

    def _lost(self, job: Job, failure: Failure, duration_s: float | None) -> bool:
        """Queues another attempt where the failure's kind allows one more, else fails the trial.

        Returns whether there is another.
        """
        if failure.kind == "lost_worker":
            failure = hung(self.study.folder, job) or failure
        kind, reason = failure.kind, failure.reason
        if self._lost_before(job).count(kind) < RETRIES.get(kind, 0):
            _logger.info("trial %d lost an attempt (%s: %s); again", job.trial, kind, reason)
            self._try_again(job, failure)
            return True
        _logger.info("%s of trial %d failed (%s): %s", job.kind, job.trial, kind, reason)
        if job.kind != "test":
            self.study.fail(job.trial, reason, kind, duration_s)
        return False

    def _lost_before(self, job: Job) -> Sequence[str]:
        """Returns the kinds of failure that earlier attempts of a job were lost by."""
        if job.kind == "test":
            return self._lost_tests[job.trial, job.seed]
        return self.study.state.lost.get(job.trial, ())

    def _try_again(self, job: Job, failure: Failure) -> None:
        halvings = job.halvings + (failure.kind == "out_of_memory")
        self._queue.appendleft(replace(job, attempt=job.attempt + 1, halvings=halvings))
        if job.kind == "test":
            self._lost_tests[job.trial, job.seed].append(failure.kind)
        else:
            self._after[job.trial] = failure

    def _left(self) -> list[tuple[Job, Outcome]]:
        """Returns how jobs of earlier drivers ended: by their result files, then their watches."""
        found = _results(self.study.folder)
        told = {job.name for job, _ in found}
        for path, watch in left_watches(self.study.folder):
            failure = watch.hung
            if failure is not None:
                _logger.info("the driver before hung, %s:\n%s", failure.reason, watch.stacks)
            elif self.spec.dispatch.local and len(watch.pack) == 1:
                # The driver died in the middle of this trial, which may be why. Of several in a
                # pack nobody knows which; the next attempts go alone. A worker of Ray dies with
                # its driver through no fault of its own, and by itself while the driver sees it.
                failure = Failure("lost_driver", "the driver was killed in the middle of it")
            if failure is not None:
                lost = Outcome({}, failure, pack=len(watch.pack))
                found += [(job, lost) for job in watch.pack if job.name not in told]
            path.unlink(missing_ok=True)
        return found

    def _known(self, job: Job) -> bool:
        """Whether the study has heard of a job's end, or never asked for it.

        Numbers of trials come again where a repair has dropped the last ones.
        """
        known = {trial.index: trial for trial in self.study.trials}
        trial = known.get(job.trial)
        if trial is None or trial.plan != job.plan:
            return True
        if job.kind == "test":
            tested = trial.status is TrialStatus.COMPLETED
            return not tested or job.seed in self.study.tests(job.trial)
        last = self.study.attempt(job.trial)
        asked = job.attempt == last and job.seed == self._seed(trial)
        return trial.status.terminal or not asked

    def _prune(self) -> None:
        """Removes the adapters of trials that are off the front: they can never come back."""
        front = {trial.index for trial in self.study.front()}
        # What is there, and not what may be: few trials of many have adapters.
        for path in (self.study.folder / ADAPTERS).glob("trial-*"):
            number = path.name.removeprefix("trial-")
            if number.isdecimal() and int(number) not in front and self._completed(int(number)):
                shutil.rmtree(path, ignore_errors=True)

    def _completed(self, index: int) -> bool:
        trials = self.study.trials
        return index < len(trials) and trials[index].status == TrialStatus.COMPLETED


def _results(folder: Path) -> list[tuple[Job, Outcome]]:
    """Returns the result files of a study in order of name; unreadable ones are left out."""
    found = (_result(path) for path in sorted((folder / RESULTS).glob("*.json")))
    return [result for result in found if result is not None]


def drop_results(folder: Path) -> None:
    """Removes the result files of a study that was in a folder before; call it for a new one.

    Raises StudyError where a link leads elsewhere.
    """
    refuse_link(folder / RESULTS)
    for path in (folder / RESULTS).glob("*.json"):
        if _result(path) is not None:
            path.unlink()


def _kept(folder: Path, job: Job) -> Outcome | None:
    """Returns the good end of a job that is on disk, None where there is none."""
    path = folder / RESULTS / f"{job.name}.json"
    result = _result(path) if path.exists() else None
    # After a repair the file may be of a trial that had this number before.
    if result is None or result[0] != job or result[1].failure is not None:
        return None
    return result[1]


def _result(path: Path) -> tuple[Job, Outcome] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        job, outcome = job_from_dict(content["job"]), outcome_from_dict(content["outcome"])
        if type(job.trial) is not int or job.kind not in ("search", "test", "row"):
            raise ValueError("not a job of ours")
    # Whatever stands there instead of what a worker writes.
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        _logger.warning("ignoring the unreadable result file %s", path.name)
        return None
    return job, outcome
