"""What a server serves: a bare base model, or one with the adapters that a search found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol, final

from milp_search.adapters.base_model import (
    EMBEDDED,
    BaseModel,
    load_base_model,
    longest_text,
    read_config,
)
from milp_search.adapters.export import load_stack, read_manifest
from milp_search.adapters.jobs import Adapter, AdapterTrainer, Example, PredictJob
from milp_search.adapters.packed.trainer import PackedTrainer
from milp_search.adapters.prompt import prompt_text
from milp_search.core.errors import StudyError
from milp_search.core.records import Interaction
from milp_search.core.settings import TrainingSettings
from milp_search.core.trial import Trial
from milp_search.dispatch.check_base import for_workers
from milp_search.dispatch.folders import adapters_folder
from milp_search.dispatch.worker import TrialRunner
from milp_search.personalize.reuse import run_held_out_examples, run_profiles
from milp_search.space.row_space import RowSpace
from milp_search.study.spec_file import SPEC_NAME, load_study_spec
from milp_search.study.study import Study

# ours: room for notes and entries; longer texts cost memory by the square of their length.
_LONGEST = 4096


class UnknownUser(Exception):
    """A user for whom nothing was trained."""


class Served(Protocol):
    """A model with a name that answers queries, of a user or of nobody."""

    @property
    def name(self) -> str:
        """What callers call it."""
        ...

    @property
    def trainer(self) -> AdapterTrainer:
        """What computes."""
        ...

    def job(self, query: str, user: str | None) -> PredictJob:
        """Returns what is to be computed for a query; raises UnknownUser."""
        ...


@final
@dataclass(frozen=True)
class BareModel:
    """A base model without adapters; every user is the same to it."""

    name: str
    trainer: AdapterTrainer

    def job(self, query: str, user: str | None) -> PredictJob:
        """Returns the query to the base model."""
        return PredictJob((Example(prompt_text(query), ""),))


@final
class FrontModel:
    """A trial of a study: one base, and per user the adapters and items that answer.

    Queries without a user go to the base alone.
    """

    def __init__(self, folder: Path, trial: Trial, runner: TrialRunner):
        assert trial.plan is not None  # a study with adapters has plans
        self.name = f"trial-{trial.index}"
        self._runner, self._plan = runner, trial.plan
        self._run = runner.run_of(trial.plan, runner.spec.seed)
        # Once, as long as the study has them: the trainer's settings become those of the requests,
        # and its model another thread's.
        self._profiles = run_profiles(self._run)
        adapters = adapters_folder(folder, trial.index)
        known = read_manifest(adapters)["users"]
        self._stacks: dict[str, tuple[Adapter, ...]] = {
            user: load_stack(adapters, user, trial.plan.adapter) for user in known
        }

    @property
    def trainer(self) -> AdapterTrainer:
        """The study's trainer."""
        return self._runner.trainer

    def job(self, query: str, user: str | None) -> PredictJob:
        """Returns the query with the user's adapters, items and profile; raises UnknownUser."""
        if user is None:
            return PredictJob((Example(prompt_text(query), ""),))
        if user not in self._stacks:
            raise UnknownUser
        asked = Interaction(user, query, "")
        queries = tuple((asked,) if one.user == user else () for one in self._run.task.targets)
        (example,) = chain(*run_held_out_examples(self._run, queries, self._profiles))
        return PredictJob((Example(example.prompt, ""),), self._stacks[user])


def bare_model(name: str, device: str) -> BareModel:
    """Returns a base model to be served.

    Args:
        name: `embedded`, a folder or a hub name.
        device: Where it computes.

    Returns:
        The model; the embedded one is called `tiny`. Of prompts longer than it has positions for
        the oldest part is left out.

    Raises:
        ModelError: It cannot be read.
    """
    base: BaseModel = load_base_model(name, device=device)
    longest = longest_text(read_config(name)) or _LONGEST
    trainer = PackedTrainer(base, TrainingSettings(max_length=min(longest, _LONGEST)))
    return BareModel("tiny" if name == EMBEDDED else name, trainer)


def front_model(folder: Path, index: int | None) -> FrontModel:
    """Returns a trial of a study to be served.

    Args:
        folder: The study's folder.
        index: The trial; None is the one of the front that is best by the first objective.

    Returns:
        The model, which is called `trial-N`.

    Raises:
        StudyError: There is no such trial, or it kept no adapters.
    """
    with Study.open(folder, read_only=True) as study:
        if isinstance(study.space, RowSpace) or study.created.shape is None:
            raise StudyError(
                f"{folder} has no adapters to serve",
                remedy="Give the folder of a search that trains adapters.",
            )
        front = study.front()
        trial = _chosen(study, front, index)
    if not adapters_folder(folder, trial.index).is_dir():
        kept = ", ".join(str(one.index) for one in front) or "none yet"
        raise StudyError(
            f"trial {trial.index} of {folder} has no adapters: only the front's are kept ({kept})",
            remedy="Choose one of those with --trial.",
        )
    # On another device it would be another base.
    runner = TrialRunner(folder, for_workers(load_study_spec(folder / SPEC_NAME)))
    return FrontModel(folder, trial, runner)


def _chosen(study: Study, front: Sequence[Trial], index: int | None) -> Trial:
    if index is not None:
        return study.trial(index)
    if not front:
        raise StudyError(
            f"{study.folder} has no front yet",
            remedy=f"Finish it first: milp-search resume {study.folder}",
        )
    first = study.objectives[0]
    sign = 1.0 if first.direction == "minimize" else -1.0
    return min(front, key=lambda trial: sign * trial.measurements[first.metric].mean)
