"""A study: ask for arms, tell what came out of them; everything else follows from its events."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, final

from milp_search.core.arm import Arm
from milp_search.core.errors import StudyError
from milp_search.core.methods import KNOWN_METHODS
from milp_search.core.model_shape import ModelShape, trainable_parameters
from milp_search.core.plan import TrialPlan
from milp_search.core.trial import Failure, Measurement, Objective, Trial
from milp_search.search.constraints import OutcomeConstraint, checked_constraints
from milp_search.search.presets import PRESETS, EngineOptions, usual_initial_trials
from milp_search.study import outcome
from milp_search.study.ax_trials import adopted_events, attach_trials
from milp_search.study.disk_space import until_there_is_space
from milp_search.study.events import (
    Abandoned,
    Asked,
    Completed,
    Created,
    Event,
    Failed,
    FinalTest,
    Finished,
    Looked,
    Measurements,
    Opened,
    Payload,
    Referenced,
    Remembered,
    Started,
    as_replayed,
    kind_of,
)
from milp_search.study.lock import LOCK_NAME, DriverLock
from milp_search.study.measured import as_exact, checked_duration, checked_measurements
from milp_search.study.reasons import checked_failure, one_line
from milp_search.study.replay import StudyState, apply, find_trial, replay, replay_longest
from milp_search.study.requested import (
    CLOSED_FORMS,
    all_metrics,
    check_measured,
    checked_name,
    checked_objectives,
    checked_settings,
    checked_texts,
    checked_whole,
    required_metrics,
)
from milp_search.study.reuse import Reused
from milp_search.study.store import EventStore, restoring

if TYPE_CHECKING:
    from milp_search.search.proposal import Proposal, Proposer
    from milp_search.space.row_space import Space

STORE_NAME = "study.sqlite3"

ExactMetric = Callable[[Arm], float]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Look:
    """A study as proposals see it.

    Attributes:
        proposer: What proposes.
        trials: All trials at the time.
        pending: Those that had not ended.
        memory: What the proposals before left.
        objectives: What the proposer was made for.
    """

    proposer: Proposer
    trials: tuple[Trial, ...]
    pending: tuple[int, ...]
    memory: Mapping[str, Any] | None = None
    objectives: tuple[Objective, ...] = ()

    def propose(self, count: int) -> list[Proposal]:
        """Returns proposals; one call at a time.

        Args:
            count: How many at most.

        Returns:
            The proposals; fewer where the space has no more unseen plans.

        Raises:
            SpaceExhausted: There is none left.
        """
        self.proposer.observe(self.trials, self.memory)
        return self.proposer.propose(count)


@dataclass(frozen=True)
class _Commit:
    """A commit, done or under way: the states before and after, and how many events are then."""

    before: StudyState
    after: StudyState
    events: int


@final
class Study:
    """One search to a budget, kept in a folder.

    Its state is the replay of its events and nothing else, so that a study that was interrupted
    and one that was not go the same way. Use it from one thread, as a context manager or with
    `close`. A study opened `read_only` needs no lock and can be looked at while another runs it.
    It lives in `folder`.
    """

    def __init__(
        self,
        folder: Path,
        store: EventStore,
        lock: DriverLock | None,
        exact: Mapping[str, ExactMetric],
    ):
        self.folder, self.read_only = folder, store.read_only
        self._store, self._lock = store, lock
        self._exact = dict(exact)
        self._since = time.monotonic()
        events = store.read()
        state = _replayed(events, store.path)
        self._latest = _Commit(state, state, len(events))
        self._answered: Look | None = None  # the last one, if its proposer is free again
        # The trials that were weighed against one another, and the front of them.
        self._weighed: tuple[frozenset[int], tuple[Trial, ...]] = frozenset(), ()

    @classmethod
    def create(
        cls,
        folder: Path | str,
        *,
        space: Space,
        objectives: Sequence[Objective],
        seed: int = 0,
        initial_trials: int | None = None,
        proposer: str = "saas_nehvi",
        preset: str = "default",
        engine: EngineOptions | None = None,
        method: str = "milp_logo",
        metrics: Sequence[str] | None = None,
        exact: Mapping[str, ExactMetric] | None = None,
        shape: ModelShape | None = None,
        max_communities: int | None = None,
        settings: Mapping[str, Any] | None = None,
        constraints: Sequence[OutcomeConstraint | str] = (),
        furnish: Callable[[Path], object] | None = None,
        lived: Callable[[Study], Sequence[Trial]] = lambda study: (),
    ) -> Self:
        """Starts a study in a folder, which is made readable to its owner only.

        Args:
            folder: A folder without a study, or one whose driver was killed before it began.
            space: What is searched.
            objectives: What for; references left out are inferred from the initial trials.
            seed: Decides every proposal, given what was told.
            initial_trials: The size of the initial design; None goes by the preset and the space.
            proposer: The proposer's name.
            preset: The proposer's preset.
            engine: What of the proposer's engine differs from the preset.
            method: The personalisation method the plans are for.
            metrics: The metrics beside the objectives that trials may be told; None is any.
            exact: Metrics that are functions of the arm, known without a trial.
            shape: The base model's shape; makes `trainable_params` exact where it is asked for.
            max_communities: The number of target users, where known.
            settings: Plain JSON facts for whoever reads the study: `name`, `versions` (library to
                version), `data_fingerprint` and the like.
            constraints: Bounds that a trial of the front keeps, or texts such as
                `rouge_l >= 0.3`; on an objective, a metric or a closed form.
            furnish: Writes what has to lie in the folder from the study's first moment on; called
                with the folder, when no other driver can take it.
            lived: Trials that were run elsewhere, for the study as it is to be; they are stored
                with it, all or nothing.

        Returns:
            The study, open.

        Raises:
            StudyError: The folder holds a study, or cannot be written.
            SpecError: There is no objective, one is named twice, or none needs a trial; the method
                is unknown, or a number no whole one; or a constraint fits neither the metrics nor
                the proposer.
        """
        # numpy comes with the table of proposers, and opening a study does not need it.
        from milp_search.search.proposers import PROPOSERS, check_any_measured, check_heeded

        objectives = checked_objectives(objectives)
        bounds = checked_constraints(checked_texts("constraints", constraints), objectives)
        closed_forms = (*(exact or {}), *(() if shape is None else CLOSED_FORMS))
        named = [one.metric for one in objectives]
        check_any_measured(named, closed_forms)
        if metrics is not None:
            known = [*named, *checked_texts("metrics", metrics), *closed_forms]
            for one in bounds:
                check_measured(one, known)
        preset = checked_name("preset", preset, PRESETS)
        if initial_trials is None:
            initial_trials = usual_initial_trials(preset, space.parameters)
        created = Created(
            space=space.as_dict(),
            objectives=objectives,
            seed=checked_whole("seed", seed),
            initial_trials=checked_whole("initial_trials", initial_trials),
            proposer=checked_name("proposer", proposer, PROPOSERS),
            preset=preset,
            method=checked_name("method", method, KNOWN_METHODS),
            metrics=all_metrics(objectives, bounds, metrics),
            exact=tuple(sorted(exact or {})),
            shape=shape,
            max_communities=max_communities,
            settings=checked_settings(settings),
            constraints=bounds,
            engine=engine or EngineOptions(),
        )
        check_heeded(bounds, proposer, preset, engine)
        folder = made_folder(Path(folder))
        with ExitStack() as undo:
            lock = DriverLock.acquire(folder / LOCK_NAME)
            undo.callback(lock.release)
            store = EventStore.create(folder / STORE_NAME)
            undo.callback(store.close_unused)
            study = cls(folder, store, lock, exact or {})
            if furnish is not None:
                furnish(folder)
            opening = [Event(created), Event(_opened(lock))]
            # From here on the study knows what it is to be, as in a commit.
            study._latest = _Commit(StudyState(), replay(opening), len(opening))
            study._commit(*opening, *study._adopted(lived(study)), patient=False)
            undo.pop_all()
        return study

    @classmethod
    def adopt(
        cls,
        folder: Path | str,
        experiment: Any,
        *,
        space: Space,
        objectives: Sequence[Objective],
        **given: Any,
    ) -> Self:
        """Starts a study with the trials that an Ax experiment has run.

        Args:
            folder: A folder without a study.
            experiment: An `ax` experiment whose parameters and values are those of the space.
            space: What is searched.
            objectives: What for; the experiment's data must carry their metrics.
            **given: The other arguments of `create`; `constraints` are the experiment's where
                left out, and its data must carry theirs too.

        Returns:
            The study, open. Trials that completed without finite data count as failed.

        Raises:
            StudyError: The folder holds a study, or cannot be written.
            SpecError: An arm of the experiment is not of the space, or a constraint of it is
                none of ours.
        """
        from milp_search.search.ax_bridge import ax_constraints, ax_trials

        if "constraints" not in given:
            given["constraints"] = ax_constraints(experiment)
        for arm in (arm for trial in experiment.trials.values() for arm in trial.arms):
            space.plan(arm.parameters)

        def lived(study: Study) -> Sequence[Trial]:
            measured = [metric for metric in study.required if metric not in study.exact]
            return ax_trials(experiment, experiment.lookup_data(), measured)

        return cls.create(folder, space=space, objectives=objectives, lived=lived, **given)

    @classmethod
    def open(
        cls,
        folder: Path | str,
        *,
        read_only: bool = False,
        exact: Mapping[str, ExactMetric] | None = None,
    ) -> Self:
        """Opens a study to go on with it, or to look at it.

        Args:
            folder: The study's folder.
            read_only: Takes no lock and refuses to change anything.
            exact: The same functions that `create` was given; not needed to look at it.

        Returns:
            The study, open.

        Raises:
            StudyError: There is no study, it is damaged, or another driver runs it.
        """
        folder = Path(folder)
        with ExitStack() as undo:
            store = EventStore.open(folder / STORE_NAME, read_only=read_only)
            undo.callback(store.close)
            lock = None if read_only else DriverLock.acquire(folder / LOCK_NAME)
            if lock is not None:
                undo.callback(lock.release)
                store.upgrade()
            study = cls(folder, store, lock, exact or {})
            study._take_over()
            undo.pop_all()
        return study

    def close(self) -> None:
        """Closes the store and gives the lock back; a second call does nothing."""
        self._store.close()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def created(self) -> Created:
        """What the study was created with."""
        # It never changes, and proposals made in another thread need it while events are stored.
        created = self._latest.after.created
        assert created is not None  # `open` and `create` see to it
        return created

    @property
    def state(self) -> StudyState:
        """The replayed state: trials, attempts, tests, epoch."""
        latest = self._latest
        return latest.after if self._store.settled() >= latest.events else latest.before

    def events(self) -> list[Event]:
        """Returns all that happened, in order, from the store."""
        return self._store.read()

    @property
    def settings(self) -> Mapping[str, Any]:
        """The facts that `create` was given for the reader."""
        return self.created.settings

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The objectives; their references are set from the start or once inferred."""
        return self.state.objectives

    @property
    def constraints(self) -> tuple[OutcomeConstraint, ...]:
        """The bounds that a trial of the front keeps."""
        return self.created.constraints

    @property
    def required(self) -> tuple[str, ...]:
        """The metrics that every completed trial carries: optimised or constrained."""
        return required_metrics(self.created.objectives, self.constraints)

    @property
    def _tellable(self) -> tuple[str, ...] | None:
        """The metrics that a trial may be told, the exact ones among them; None where any may."""
        created = self.created
        known = created.metrics
        return None if known is None else tuple(dict.fromkeys((*known, *created.exact)))

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials, in the order in which they were asked."""
        return self.state.trials

    @property
    def pending(self) -> tuple[Trial, ...]:
        """The trials that have no end yet."""
        return tuple(trial for trial in self.trials if not trial.status.terminal)

    @property
    def finished(self) -> str | None:
        """Why the search ended; None while it goes on."""
        return self.state.finished

    @cached_property
    def space(self) -> Space:
        """The search space, or the rows of a table."""
        from milp_search.space.row_space import space_from_dict

        return space_from_dict(self.created.space)

    def trial(self, index: int) -> Trial:
        """Returns one trial.

        Args:
            index: The trial.

        Returns:
            The trial as it stands.

        Raises:
            StudyError: No such trial was asked.
        """
        return find_trial(self.state, index)

    def attempt(self, index: int) -> int | None:
        """Returns a trial's latest attempt, None where it was never started."""
        return self.state.attempts.get(index)

    def tests(self, index: int) -> Mapping[int, Measurements]:
        """Returns a trial's test measurements by test seed, empty where it was not tested."""
        return self.state.tests.get(index, {})

    def ask(self) -> Trial:
        """Returns a new trial.

        Returns:
            The trial, which is on disk already.

        Raises:
            SpaceExhausted: No plan is left that was not asked before.
        """
        return self.ask_batch(1)[0]

    def ask_batch(self, count: int) -> list[Trial]:
        """Returns new trials that are to run side by side.

        Args:
            count: How many at most.

        Returns:
            The trials, on disk already; fewer where the space has no more unseen plans.

        Raises:
            SpaceExhausted: There is none left.
        """
        look = self.look()
        return self.take(look, look.propose(count))

    def look(self, ahead: int | None = None) -> Look:
        """Returns what the next proposals will be based on: the study as it stands.

        Args:
            ahead: For so many trials is asked ahead of time; noted on disk, so that a resumed
                study asks with the same knowledge. None where the ask is answered at once.

        Returns:
            A look that proposes, also in another thread, while the study goes on.
        """
        self._refuse_if_read_only()
        look = self._look(self.state, self._free_proposer())
        if ahead is not None:
            self._commit(Event(Looked(ahead)))
        return look

    def unanswered_look(self) -> tuple[Look, int] | None:
        """Returns the last look ahead and its number of trials, if no trial was asked since.

        Returns:
            The look as it was, or None.
        """
        events = self.events()
        kinds = [type(event.payload) for event in events]
        if Looked not in kinds:
            return None
        place = len(kinds) - 1 - kinds[::-1].index(Looked)
        payload = events[place].payload
        if Asked in kinds[place:] or not isinstance(payload, Looked):
            return None
        state = replay(events[:place])
        return self._look(state, self._proposer_for(state.objectives)), payload.count

    def take(self, look: Look, proposals: Sequence[Proposal]) -> list[Trial]:
        """Returns the trials that proposals become.

        Args:
            look: What they were based on; no trial was asked since.
            proposals: What it proposed.

        Returns:
            The trials, on disk already.
        """
        self._answered = look
        first = len(self.trials)
        assert first == len(look.trials), "asked while proposals were made"
        events = [
            Event(
                Asked(
                    arm=proposal.arm,
                    plan=self.plan(proposal.arm),
                    origin=proposal.origin,
                    seed=self.created.seed,
                    known=len(look.trials),
                    pending=look.pending,
                ),
                trial=index,
            )
            for index, proposal in enumerate(proposals, first)
        ]
        memory = look.proposer.memory
        if memory != self.state.memory:
            events.append(Event(Remembered(None if memory is None else dict(memory))))
        self._commit(*events)
        return list(self.trials[first:])

    def start(self, index: int, attempt: int = 0, *, after: Failure | None = None) -> None:
        """Notes that an attempt begins.

        Args:
            index: The trial.
            attempt: Which attempt, from 0.
            after: How the attempt before it was lost.

        Raises:
            StudyError: The trial has ended, or had this attempt or a later one already; or the
                kind of `after` is unknown.
        """
        lost = None if after is None else checked_failure(after.kind, after.reason)
        attempt = checked_whole("attempt", attempt, StudyError)
        self._commit(Event(Started(lost), self.trial(index).index, attempt))

    def tell(
        self,
        index: int,
        measurements: Mapping[str, Measurement | float],
        duration_s: float | None = None,
        *,
        pack: int = 1,
        reused: Reused | None = None,
    ) -> Trial:
        """Ends a trial with its measurements and returns it; nothing can change them later.

        Args:
            index: The trial.
            measurements: At least what is optimised or constrained; exact metrics are filled in.
            duration_s: Its share of its pack's seconds.
            pack: How many trials were trained together.
            reused: Hits and lookups in the study's cache, by kind.

        Returns:
            The completed trial.

        Raises:
            MeasurementError: A metric is missing or unknown, or a value is not finite; or an
                exact metric has another value.
            StudyError: The trial was never asked, or has ended already.
        """
        trial = self.trial(index)
        exact = self._exact_measurements(trial.arm)
        checked = checked_measurements(
            {**exact, **measurements}, required=self.required, known=self._tellable
        )
        checked = as_exact(checked, exact)
        duration_s = checked_duration(duration_s)
        return self._end(trial.index, Completed(checked, duration_s, pack, dict(reused or {})))

    def fail(
        self,
        index: int,
        reason: str | BaseException,
        kind: str = "told",
        duration_s: float | None = None,
    ) -> Trial:
        """Ends a trial without measurements and returns it.

        Args:
            index: The trial.
            reason: Why, in a line, or what was raised; it must not quote users' texts.
            kind: One of `FAILURE_KINDS`.
            duration_s: Seconds from start to end.

        Returns:
            The failed trial.

        Raises:
            StudyError: The kind is unknown, the trial was never asked or has ended already.
            MeasurementError: The duration is not finite.
        """
        failed = Failed(checked_failure(kind, reason), checked_duration(duration_s))
        return self._end(index, failed)

    def abandon(self, index: int, reason: str) -> Trial:
        """Ends a trial that will not be evaluated, through no fault of its own, and returns it.

        Args:
            index: The trial.
            reason: Why, in a line.

        Returns:
            The abandoned trial.

        Raises:
            StudyError: The trial was never asked, or has ended already.
        """
        return self._end(index, Abandoned(one_line(reason)))

    def record_test(
        self, index: int, seed: int, measurements: Mapping[str, Measurement | float]
    ) -> None:
        """Keeps what a completed trial measures on the test split.

        Args:
            index: The trial.
            seed: The test seed it was trained with.
            measurements: Metric name to value.

        Raises:
            MeasurementError: A metric is unknown or a value is not finite.
            StudyError: The trial is not completed, or was tested with this seed already.
        """
        checked = checked_measurements(measurements, required=(), known=self._tellable)
        seed = checked_whole("the test seed", seed, StudyError)
        self._commit(Event(FinalTest(seed, checked), self.trial(index).index))

    def finish(self, reason: str) -> None:
        """Notes why the search ended; a later `ask` takes it up again."""
        self._commit(Event(Finished(one_line(reason))))

    def eligible(self) -> list[Trial]:
        """Returns the completed trials that keep every constraint: those the front is made of."""
        return outcome.eligible(self.trials, self.constraints)

    def front(self) -> list[Trial]:
        """Returns the eligible trials that no other one dominates."""
        # Trials that have ended do not change: what is dominated once is so for good.
        weighed, front = self._weighed
        fresh = [trial for trial in self.eligible() if trial.index not in weighed]
        found = outcome.pareto_front([*front, *fresh], self.objectives)
        self._weighed = weighed.union(trial.index for trial in fresh), tuple(found)
        return found

    def hypervolume(self) -> float | None:
        """Returns the hypervolume that eligible trials dominate, None until references are known.

        In the product of the objectives' natural units, relative to their references.
        """
        if not self.state.referenced:
            return None
        return outcome.dominated_hypervolume(self.front(), self.objectives)

    def hypervolume_trace(self) -> list[float]:
        """Returns the hypervolume after each trial, by index; empty until references are known."""
        if not self.state.referenced:
            return []
        return outcome.hypervolume_trace(self.trials, self.objectives, self.constraints)

    def plan(self, arm: Arm) -> TrialPlan:
        """Returns what an arm means for training in this study."""
        created = self.created
        return self.space.plan(arm, created.method, created.max_communities)

    def trainable_params(self, trial: Trial) -> int | None:
        """Returns a trial's number of trainable parameters, None where the shape is not known."""
        shape = self.created.shape
        if shape is None or trial.plan is None:
            return None
        adapter = trial.plan.adapter
        return trainable_parameters(adapter, shape.targets(adapter.target_maps))

    @cached_property
    def exact(self) -> Mapping[str, ExactMetric]:
        """The metrics that follow from the arm alone: those given, and `trainable_params`."""
        wanted = {*self.required, *(self.created.metrics or ())}
        shape = self.created.shape
        if shape is None or "trainable_params" not in wanted:
            return self._exact
        return {"trainable_params": self._count_parameters, **self._exact}

    def to_ax(self) -> Any:
        """Returns a plain Ax experiment with all trials attached, under the same indices."""
        from milp_search.search.ax_bridge import ax_experiment

        name = str(self.settings.get("name") or self.space.name)
        experiment = ax_experiment(self.space, self.objectives, name, self.constraints)
        attach_trials(experiment, self.trials, self.required)
        return experiment

    def _adopted(self, trials: Sequence[Trial]) -> list[Event]:
        events: list[Event] = []
        for trial in trials:
            known = as_exact(trial.measurements, self._exact_measurements(trial.arm))
            planned = replace(trial, plan=self.plan(trial.arm), measurements=known)
            events += adopted_events(planned, self.created.seed)
        after = reduce(apply, events, self._latest.after)
        return [*events, *self._reference_if_due(after)]

    def _exact_measurements(self, arm: Arm) -> dict[str, Measurement]:
        return {
            metric: Measurement(float(function(arm)), 0.0)
            for metric, function in self.exact.items()
        }

    def _count_parameters(self, arm: Arm) -> float:
        count = self.trainable_params(Trial(-1, arm, self.plan(arm)))
        assert count is not None  # `exact` asks only where the shape is known
        return float(count)

    def _free_proposer(self) -> Proposer:
        # One that was cut short stands anywhere in its sequence: it never becomes free.
        answered, self._answered = self._answered, None
        if answered is not None and answered.objectives == self.objectives:
            return answered.proposer
        return self._proposer_for(self.objectives)

    def _proposer_for(self, objectives: Sequence[Objective]) -> Proposer:
        from milp_search.search.proposers import make_proposer

        return make_proposer(
            self.created.proposer,
            space=self.space,
            objectives=objectives,
            seed=self.created.seed,
            initial_trials=self.created.initial_trials,
            preset=self.created.preset,
            engine=self.created.engine,
            realise=self.plan,
            exact=self.exact,
            constraints=self.constraints,
        )

    def _look(self, state: StudyState, proposer: Proposer) -> Look:
        pending = tuple(trial.index for trial in state.trials if not trial.status.terminal)
        return Look(proposer, state.trials, pending, state.memory, state.objectives)

    def _take_over(self) -> None:
        if self.state.created is None:
            raise StudyError(
                f"expected a study in {self.folder}, got one that was never fully created",
                remedy="Start the study again, in the same folder: nothing of it has run.",
            )
        if self._lock is None:
            return
        if set(self.created.exact) != set(self._exact):
            raise StudyError(
                f"expected the exact metrics the study was created with "
                f"({', '.join(self.created.exact) or 'none'}), "
                f"got {', '.join(sorted(self._exact)) or 'none'}",
                remedy="Pass the same functions as `exact=` to `Study.open`.",
            )
        self._lock.rise_above(self.state.epoch)
        # References are due already where the event that brought them was cut off by a repair.
        due = self._reference_if_due(self.state)
        self._commit(Event(_opened(self._lock)), *due, patient=False)

    def _end(self, index: int, payload: Payload) -> Trial:
        index = self.trial(index).index
        event = Event(payload, index, self.attempt(index))
        after = apply(self.state, event)
        self._commit(event, *self._reference_if_due(after))
        trial = self.trial(index)
        _logger.info("trial %d %s", index, trial.status)
        return trial

    def _reference_if_due(self, state: StudyState) -> list[Event]:
        initial = state.trials[: self.created.initial_trials]
        due = len(initial) == self.created.initial_trials and all(
            trial.status.terminal for trial in initial
        )
        # Later trials may have ended before: only the initial ones count, so that the reference
        # does not depend on how many run side by side. Where all of them failed, any one must do.
        trials = outcome.completed(initial) or outcome.completed(state.trials)
        if state.referenced or not due or not trials:
            return []
        from milp_search.search.reference import infer_reference

        return [Event(Referenced(tuple(infer_reference(trials, state.objectives))))]

    def _commit(self, *events: Event, patient: bool = True) -> None:
        """Stores events and lives on in the state after them.

        An exception may cut this short anywhere: from before the commit on there are both states,
        and what is on disk says which is the study's. With `patient`, a full disk is waited for:
        what a driver knows may be nowhere else.
        """
        self._refuse_if_read_only()
        before, now, elapsed_s = self.state, time.time(), time.monotonic() - self._since
        # A study that goes on must not differ from one that is opened again.
        stamped = [as_replayed(replace(event, at=now, elapsed_s=elapsed_s)) for event in events]
        after = reduce(apply, stamped, before)
        self._latest = _Commit(before, after, self._store.settled() + len(stamped))
        try:
            if patient:
                what = " and ".join(map(_described, stamped))
                until_there_is_space(lambda: self._store.append(stamped), what, self.folder)
            else:
                self._store.append(stamped)
        finally:
            self._store.settled()
        for event in events:
            _logger.debug("%s, trial %s", kind_of(event.payload), event.trial)

    def _refuse_if_read_only(self) -> None:
        if self.read_only:
            raise StudyError(
                f"{self.folder} was opened read-only",
                remedy="Open it with `Study.open(folder)` to change it.",
            )


def made_folder(folder: Path) -> Path:
    """Returns the folder, made where it was missing and then readable to its owner only.

    Args:
        folder: The folder.

    Returns:
        The same.

    Raises:
        StudyError: It cannot be made.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StudyError(
            f"expected to make the folder {folder}, got: {error.strerror}",
            remedy="Choose a folder that you can write to.",
        ) from error
    return folder


def _replayed(events: Sequence[Event], path: Path) -> StudyState:
    try:
        return replay(events)
    except StudyError as error:
        whole = replay_longest(events)[1]
        raise StudyError(
            f"the study's store has events that cannot follow one another: event {whole + 1} "
            f"({error.message}): {path}",
            remedy=restoring(path),
        ) from error


def _described(event: Event) -> str:
    kind = f"{kind_of(event.payload)!r}"
    return kind if event.trial is None else f"{kind} of trial {event.trial}"


def _opened(lock: DriverLock) -> Opened:
    return Opened(lock.epoch, lock.host, lock.pid)
