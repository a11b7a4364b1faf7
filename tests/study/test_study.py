"""Ask and tell: the life of a study."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from milp_search.core.arm import Arm
from milp_search.core.errors import MeasurementError, SpecError, StudyError
from milp_search.core.trial import Failure, Measurement, Objective, Trial, TrialStatus
from milp_search.search.presets import EngineOptions
from milp_search.search.proposal import SpaceExhausted
from milp_search.space.search_space import SearchSpace
from milp_search.space.space_file import load_search_space
from milp_search.study.events import Created
from milp_search.study.store import begun
from milp_search.study.study import Study
from study.making import GOALS, SHAPE, Make

# GPyTorch scripts functions when it is imported, which Torch no longer likes.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")

Do = Callable[[], object]

GOOD: Mapping[str, Measurement | float] = {"loss": Measurement(2.0, 0.1), "rouge_l": 0.5}


def told(study: Study, *points: tuple[float, float]) -> list[Trial]:
    """Asks and tells one trial per (loss, rouge_l)."""
    trials = [study.ask() for _ in points]
    for trial, (loss, rouge_l) in zip(trials, points, strict=True):
        study.tell(trial.index, {"loss": loss, "rouge_l": rouge_l})
    return list(study.trials)


def test_the_documented_usage_works(tmp_path: Path) -> None:
    from milp_search import Measurement, Objective, Study, load_search_space

    root = Path(__file__).parents[2]
    study = Study.create(
        tmp_path / "study",
        space=load_search_space(root / "search_spaces" / "milp.yaml", layers=32),
        objectives=[Objective("loss", "minimize", 3.0), Objective("rouge_l", "maximize", 0.0)],
        seed=0,
    )
    with study:
        trial = study.ask()
        assert trial.arm["lora_rank"] in (8, 16, 32, 64, 96)
        study.tell(trial.index, {"loss": Measurement(2.1, 0.02), "rouge_l": 0.2})
        failed = study.ask()
        study.fail(failed.index, "out of patience")
        assert [one.index for one in study.front()] == [trial.index]
        # One point: (3.0 - 2.1) * (0.2 - 0.0).
        assert study.hypervolume() == pytest.approx(0.18)


def test_the_folder_is_its_owners_alone(make: Make) -> None:
    assert stat.S_IMODE(make().folder.stat().st_mode) == 0o700


def test_an_asked_trial_is_on_disk_with_what_was_known(make: Make) -> None:
    study = make()
    first, second = study.ask_batch(2)
    study.tell(first.index, GOOD)
    third = study.ask()
    with Study.open(study.folder, read_only=True) as seen:
        assert seen.trials == study.trials
        assert [trial.status for trial in seen.trials] == ["completed", "asked", "asked"]
    asked = [e.payload for e in study._store.read() if e.trial == third.index]
    assert (asked[0].seen, asked[0].pending) == ((first.index,), (second.index,))  # type: ignore[attr-defined]
    assert third.plan == study.plan(third.arm)
    assert third.origin == "random"


def test_a_resumed_study_goes_on_as_one_that_was_never_closed(make: Make) -> None:
    straight, broken = make(seed=5), make(seed=5)
    folder = broken.folder
    for _ in range(6):
        for study in (straight, broken):
            study.tell(study.ask().index, GOOD)
        broken.close()
        broken = Study.open(folder)
    assert broken.trials == straight.trials
    assert broken.state.epoch == 7
    broken.close()


def test_a_study_that_goes_on_equals_one_that_is_opened_again(make: Make) -> None:
    study = make(settings={"seeds": (1, 2)}, metrics=["rouge_1"], shape=SHAPE)
    study.tell(study.ask().index, {"rouge_1": 1, "loss": 2, "rouge_l": Measurement(0.5, 0.1, (1,))})
    study.fail(study.ask().index, "x")
    with Study.open(study.folder, read_only=True) as seen:
        assert seen.state == study.state
        assert repr(seen.state) == repr(study.state)


def test_no_plan_is_asked_twice_and_an_exhausted_space_says_so(make: Make, tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text("name: small\nlayers: 2\ndimensions:\n  lora_rank: [2, 4, 8]\n")
    study = make(space=load_search_space(file))
    assert len(study.ask_batch(10)) == 3
    plans = {trial.plan.fingerprint() for trial in study.trials if trial.plan}
    assert len(plans) == 3
    with pytest.raises(SpaceExhausted):
        study.ask()


def test_a_trial_is_told_once_and_the_first_one_wins(make: Make) -> None:
    study = make()
    trial = study.ask()
    done = study.tell(trial.index, GOOD, duration_s=1.5)
    assert (done.status, done.duration_s) == (TrialStatus.COMPLETED, 1.5)
    events = study._store.read()
    lates: list[Do] = [
        lambda: study.tell(trial.index, {"loss": 1.0, "rouge_l": 0.9}),
        lambda: study.fail(trial.index, "late"),
        lambda: study.abandon(trial.index, "late"),
        lambda: study.start(trial.index, 3),
    ]
    for late in lates:
        with pytest.raises(StudyError, match="completed already"):
            late()
    assert study.trial(trial.index) == done
    assert study._store.read() == events


def test_a_trial_that_was_never_asked_cannot_end(make: Make) -> None:
    study = make()
    ends: list[Do] = [
        lambda: study.tell(0, GOOD),
        lambda: study.fail(0, "x"),
        lambda: study.abandon(-1, "x"),
        lambda: study.trial(0),
    ]
    for end in ends:
        with pytest.raises(StudyError, match="none yet"):
            end()


@pytest.mark.parametrize(
    ("measurements", "message"),
    [
        ({"loss": 1.0}, "expected rouge_l; got loss"),
        ({"loss": float("nan"), "rouge_l": 0.1}, "loss: expected a finite mean"),
        ({"loss": 1.0, "rouge_l": 0.1, "rogue_1": 0.1}, "Did you mean 'rouge_1'"),
    ],
)
def test_bad_measurements_change_nothing(
    make: Make, measurements: dict[str, Any], message: str
) -> None:
    study = make(metrics=["rouge_1"])
    trial = study.ask()
    with pytest.raises(MeasurementError, match=message):
        study.tell(trial.index, measurements)
    assert study.trial(trial.index) == trial
    study.tell(trial.index, {**GOOD, "rouge_1": 0.3})


def test_numbers_of_numpy_are_as_good_as_plain_ones(make: Make) -> None:
    zero, four, one_and_a_half = cast(Any, (np.int64(0), np.int64(4), np.float32(1.5)))
    study = make(seed=np.int64(1))
    study.ask()
    study.start(zero, zero)
    study.tell(zero, GOOD, one_and_a_half)
    study.record_test(zero, four, {"loss": 2.5})
    with Study.open(study.folder, read_only=True) as seen:
        assert (seen.created.seed, seen.trial(0).duration_s) == (1, 1.5)
        assert seen.tests(0) == {4: {"loss": Measurement(2.5)}}


def test_what_is_no_number_is_refused_and_changes_nothing(make: Make) -> None:
    study, nan = make(), float("nan")
    index = study.ask().index
    users = Measurement(1.0, 0.1, (1.0, nan))
    bad: list[tuple[Do, type[ValueError], str]] = [
        (lambda: study.tell(0.0, GOOD), StudyError, r"\(0 to 0\), got 0.0"),  # type: ignore[arg-type]
        (lambda: study.start(index, 0.5), StudyError, "attempt to be a whole .* got 0.5"),  # type: ignore[arg-type]
        (lambda: study.tell(index, {**GOOD, "loss": users}), MeasurementError, "loss: .*nan"),
        (lambda: study.tell(index, GOOD, nan), MeasurementError, "duration_s .* got nan"),
        (lambda: study.fail(index, "x", duration_s=nan), MeasurementError, "duration_s .* got nan"),
    ]
    for do, kind, message in bad:
        with pytest.raises(kind, match=message):
            do()
    assert study.trial(index).status == "asked"
    study.tell(index, GOOD)
    with pytest.raises(StudyError, match=r"the test seed to be a whole .* got -1"):
        study.record_test(index, -1, GOOD)
    assert study.tests(index) == {}


def test_a_trial_fails_for_an_exception_as_for_its_message(make: Make) -> None:
    study = make()
    failed = study.fail(study.ask().index, RuntimeError("out of\nluck"))
    assert failed.failure == Failure("told", "out of luck")


def test_a_failure_keeps_its_kind_and_a_printable_reason(make: Make) -> None:
    study = make()
    trial = study.ask()
    study.start(trial.index)
    assert study.pending[0].status is TrialStatus.RUNNING
    study.start(trial.index, 1, after=Failure("lost_worker", "gone\x1b[31m"))
    assert study.attempt(trial.index) == 1
    failed = study.fail(trial.index, "a\nb\x1b[31m " + "c" * 900, "out_of_memory", 2.0)
    assert failed.failure == Failure("out_of_memory", ("a b [31m " + "c" * 900)[:500])
    assert study.pending == ()
    with pytest.raises(StudyError, match="expected a failure of kind exception"):
        study.fail(study.ask().index, "x", "sudden")
    with pytest.raises(StudyError, match="got 'sudden'"):
        study.start(1, after=Failure("sudden", "x"))


def test_an_abandoned_trial_is_over(make: Make) -> None:
    study = make()
    assert study.abandon(study.ask().index, "stopped").status is TrialStatus.ABANDONED


def test_the_front_is_that_of_all_trials_however_often_it_was_looked_at(make: Make) -> None:
    study = make()
    points = [(2.0, 0.5), (1.0, 0.2), (2.5, 0.4), (2.0, 0.5), (0.5, 0.6), (0.4, 0.1)]
    fronts = [[0], [0, 1], [0, 1], [0, 1, 3], [4], [4, 5]]
    trials = [study.ask() for _ in points]
    for trial, (loss, rouge_l), front in zip(trials, points, fronts, strict=True):
        study.tell(trial.index, {"loss": loss, "rouge_l": rouge_l})
        assert [one.index for one in study.front()] == front
    with Study.open(study.folder, read_only=True) as again:
        assert again.front() == study.front()
        assert again.hypervolume() == study.hypervolume()


def test_front_and_hypervolume_leave_out_what_is_dominated(make: Make) -> None:
    study = make()
    assert study.front() == []
    assert study.hypervolume() == 0.0
    trials = told(study, (2.0, 0.5), (1.0, 0.2), (2.5, 0.4))
    study.fail(study.ask().index, "x")
    assert study.front() == trials[:2]
    # Against (3, 0): 1.0 x 0.5, and 1.0 x 0.2 to its left; the third adds nothing.
    assert study.hypervolume() == pytest.approx(0.7)
    assert study.hypervolume_trace() == pytest.approx([0.5, 0.7, 0.7, 0.7])


def test_missing_references_are_inferred_once_the_initial_trials_have_ended(make: Make) -> None:
    goals = (Objective("loss", "minimize"), Objective("rouge_l", "maximize", 0.0))
    study = make(objectives=goals, initial_trials=3)
    first, second, third, later = study.ask_batch(4)
    study.tell(first.index, {"loss": 1.0, "rouge_l": 0.5})
    study.tell(later.index, {"loss": 9.0, "rouge_l": 0.5})
    study.tell(second.index, {"loss": 2.0, "rouge_l": 0.1})
    assert study.hypervolume() is None
    assert study.hypervolume_trace() == []
    study.fail(third.index, "x")
    # The worst of the initial trials, a tenth of their range further out.
    assert study.objectives[0].reference == pytest.approx(2.1)
    assert study.objectives[1] == goals[1]
    study.tell(study.ask().index, {"loss": 50.0, "rouge_l": 0.1})
    assert study.objectives[0].reference == pytest.approx(2.1)
    study.close()
    with Study.open(study.folder) as again:
        assert again.objectives == study.objectives


def test_where_all_initial_trials_fail_the_first_to_complete_gives_the_reference(
    make: Make,
) -> None:
    study = make(objectives=[Objective("loss", "minimize")], initial_trials=2)
    for trial in study.ask_batch(2):
        study.fail(trial.index, "x")
    assert study.objectives[0].reference is None
    study.tell(study.ask().index, {"loss": 1.0})
    assert study.objectives[0].reference is not None


def test_trainable_parameters_are_counted_and_not_told(make: Make) -> None:
    goals = [*GOALS, Objective("trainable_params", "minimize", 1e6)]
    study = make(objectives=goals, shape=SHAPE)
    trial = study.ask()
    assert trial.plan is not None
    expected = trial.plan.adapter.total_rank * 64
    assert study.trainable_params(trial) == expected
    done = study.tell(trial.index, GOOD)
    assert done.measurements["trainable_params"] == Measurement(expected, 0.0)
    assert make().trainable_params(trial) is None
    assert make(shape=SHAPE).exact == {}


def test_an_exact_metric_needs_no_place_among_the_metrics(make: Make) -> None:
    study = make(metrics=["rouge_1"], exact={"flops": lambda arm: 5.0})
    done = study.tell(study.ask().index, {**GOOD, "rouge_1": 0.3})
    assert done.measurements["flops"] == Measurement(5.0, 0.0)
    study.record_test(done.index, 1, {"loss": 2.2, "flops": 5.0})
    with pytest.raises(MeasurementError, match=r"\(flops, loss, rouge_1, rouge_l\), got 'bleu'"):
        study.record_test(done.index, 2, {"bleu": 0.2})


def test_an_exact_metric_that_was_told_another_value_is_refused(make: Make) -> None:
    study = make(exact={"cost": lambda arm: 5.0})
    index = study.ask().index
    for wrong in (-99.0, 5.001, 0.0):
        with pytest.raises(MeasurementError, match=rf"expected 5.0 for 'cost', .* got {wrong}"):
            study.tell(index, {**GOOD, "cost": wrong})
    # Single precision told it.
    done = study.tell(index, {**GOOD, "cost": Measurement(5.0000002, 0.5)})
    assert done.measurements["cost"] == Measurement(5.0, 0.0)


def test_exact_metrics_must_be_given_again_to_go_on(make: Make) -> None:
    def cost(arm: Arm) -> float:
        return float(arm["lora_rank"])

    study = make(objectives=[*GOALS, Objective("cost", "minimize", 99.0)], exact={"cost": cost})
    trial = study.ask()
    done = study.tell(trial.index, GOOD)
    assert done.measurements["cost"].mean == trial.arm["lora_rank"]
    study.close()
    with pytest.raises(StudyError, match=r"expected the exact metrics .*\(cost\), got none"):
        Study.open(study.folder)
    Study.open(study.folder, read_only=True).close()
    Study.open(study.folder, exact={"cost": cost}).close()


def test_test_measurements_stand_beside_by_seed(make: Make) -> None:
    study = make(metrics=["rouge_1"])
    trial = study.ask()
    study.tell(trial.index, GOOD)
    study.record_test(trial.index, 1, {"loss": 2.2})
    assert study.tests(trial.index) == {1: {"loss": Measurement(2.2)}}
    with pytest.raises(StudyError, match="seed 1 already"):
        study.record_test(trial.index, 1, {"loss": 0.2})
    with pytest.raises(MeasurementError, match="only metrics of the study"):
        study.record_test(trial.index, 2, {"bleu": 0.2})
    assert study.trial(trial.index).measurements["loss"].mean == 2.0


def test_a_finished_study_may_be_taken_up_again(make: Make) -> None:
    study = make()
    study.finish("budget spent")
    assert study.finished == "budget spent"
    study.ask()
    assert study.finished is None


def uses(study: Study) -> list[Do]:
    return [study.events, study.ask, lambda: study.tell(0, GOOD)]


def test_a_closed_study_says_so_and_is_not_called_damaged(make: Make) -> None:
    study = make()
    study.ask()
    study.close()
    for use in uses(study):
        with pytest.raises(StudyError, match=r"closed or of another thread.*\n  Open the study"):
            use()
    assert len(study.trials) == 1
    study.close()


def test_a_study_is_not_called_damaged_in_another_thread(make: Make) -> None:
    study = make()
    study.ask()
    with ThreadPoolExecutor(1) as other:
        for use in uses(study):
            with pytest.raises(
                StudyError, match=r"closed or of another thread.*\n  Open the study"
            ):
                other.submit(use).result()
    assert study.tell(0, GOOD).status == "completed"


def test_a_second_driver_is_refused_while_readers_are_not(make: Make) -> None:
    study = make()
    ways: list[Do] = [
        lambda: Study.open(study.folder),
        lambda: Study.create(study.folder, space=study.space, objectives=GOALS),
    ]
    for again in ways:
        with pytest.raises(StudyError, match=f"process {os.getpid()}"):
            again()
    Study.open(study.folder, read_only=True).close()


def test_a_study_opened_to_read_changes_nothing(make: Make) -> None:
    study = make()
    with Study.open(study.folder, read_only=True) as seen:
        with pytest.raises(StudyError, match="opened read-only"):
            seen.ask()
        with pytest.raises(StudyError, match="opened read-only"):
            seen.finish("x")
        assert seen.state.epoch == 1


def test_a_folder_holds_one_study(make: Make) -> None:
    study = make()
    study.close()
    with pytest.raises(StudyError, match="holds a study already"):
        Study.create(study.folder, space=study.space, objectives=GOALS)
    Study.open(study.folder).close()


def test_where_no_folder_can_be_made_none_is_made(tmp_path: Path, space: SearchSpace) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match="expected to make the folder"):
        Study.create(tmp_path / "file" / "s", space=space, objectives=GOALS)


def test_a_study_that_was_never_fully_created_is_named_and_can_be_created(
    tmp_path: Path, space: SearchSpace
) -> None:
    from milp_search.study.store import EventStore

    EventStore.create(tmp_path / "study.sqlite3").close()
    with pytest.raises(StudyError, match="never fully created"):
        Study.open(tmp_path)
    Study.create(tmp_path, space=space, objectives=GOALS).close()


def test_what_furnishes_the_folder_comes_before_the_study(
    tmp_path: Path, space: SearchSpace
) -> None:
    def furnish(folder: Path) -> None:
        assert not begun(folder / "study.sqlite3")
        (folder / "study.yaml").write_text("mine")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Study.create(tmp_path, space=space, objectives=GOALS, furnish=furnish)
    assert not begun(tmp_path / "study.sqlite3")
    assert (tmp_path / "study.yaml").read_text() == "mine"
    Study.create(tmp_path, space=space, objectives=GOALS).close()
    assert begun(tmp_path / "study.sqlite3")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"objectives": []}, "at least one objective"),
        ({"objectives": [GOALS[0], GOALS[0]]}, "got 'loss' 2 times"),
        (
            {"objectives": [Objective("trainable_params", "minimize")], "shape": SHAPE},
            "one objective that is measured, got trainable_params",
        ),
        (
            {"objectives": [Objective("f", "minimize")], "exact": {"f": lambda arm: 5.0}},
            "one objective that is measured, got f",
        ),
        ({"seed": -1}, "expected seed to be a whole number of at least 0, got -1"),
        ({"initial_trials": 2.5}, "expected initial_trials to be a whole number .*, got 2.5"),
        ({"initial_trials": -1}, "expected initial_trials to be a whole number .*, got -1"),
        ({"settings": {"p": Path("x")}}, "expected settings of plain JSON values, got: Object of"),
        ({"settings": {"p": float("inf")}}, "expected settings of plain JSON values, got: Out of"),
        ({"metrics": "rouge_l"}, "expected a list as metrics, got 'rouge_l'"),
        ({"constraints": "loss <= 2"}, "expected a list as constraints, got 'loss <= 2'"),
        ({"method": "mlip"}, "expected a method"),
        ({"proposer": "saas"}, "expected a proposer"),
        ({"preset": "papers"}, "expected a preset"),
        ({"constraints": ["loss < 2"]}, "expected a constraint such as"),
        ({"constraints": ["loss >= 2"]}, "by getting better"),
        ({"constraints": ["mae <= 2"], "metrics": ["rouge_1"]}, "metric of this study, got 'mae"),
        ({"constraints": ["rogue_1 >= 0"], "metrics": ["rouge_1"]}, "did you mean `rouge_1`"),
        ({"constraints": ["trainable_params <= 9"], "metrics": []}, "a metric of this study"),
        (
            {"constraints": ["mae <= 2"], "proposer": "map_saas", "preset": "paper"},
            "no constraints with preset 'paper'",
        ),
        (
            {
                "constraints": ["mae <= 2"],
                "proposer": "gp_nehvi",
                "engine": EngineOptions(acquisition="qnehvi"),
            },
            "acquisition 'qnehvi', which knows none",
        ),
    ],
)
def test_a_study_that_makes_no_sense_leaves_no_folder(
    make: Make, tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        make(**given)
    assert not (tmp_path / "study 0").exists()


def test_an_initial_design_left_out_goes_by_the_preset_and_the_space(make: Make) -> None:
    study = make(initial_trials=None)
    free = sum(len(parameter.values) > 1 for parameter in study.space.parameters)
    assert 5 <= free <= 16
    assert study.created.initial_trials == free
    assert make(initial_trials=None, preset="paper").created.initial_trials == 100


def test_engine_options_are_kept_and_propose(make: Make) -> None:
    study = make(proposer="gp_nehvi", engine=EngineOptions(initial_design="random"))
    study.close()
    with Study.open(study.folder) as again:
        assert again.created.engine == EngineOptions(initial_design="random")
        assert again.ask().arm == make(proposer="random").ask().arm


def test_the_space_is_kept_in_the_study(make: Make, space: SearchSpace) -> None:
    study = make(settings={"name": "mine"})
    with Study.open(study.folder, read_only=True) as seen:
        assert seen.space == space
        assert seen.settings == {"name": "mine"}


HEAVY = "{'torch', 'ax', 'botorch', 'plotly', 'jinja2', 'ray', 'transformers'}"


def test_importing_the_study_imports_nothing_heavy() -> None:
    code = (
        "import sys, milp_search, milp_search.study.study, milp_search.study.export\n"
        "milp_search.Study, milp_search.Objective, milp_search.Measurement\n"
        f"print({HEAVY} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.slow
@pytest.mark.parametrize("proposer", ["saas_nehvi", "sobol"])
def test_a_search_killed_in_the_middle_asks_what_it_would_have_asked(
    make: Make, proposer: str
) -> None:
    goals = [Objective("loss", "minimize"), Objective("trainable_params", "minimize")]
    given = {"objectives": goals, "shape": SHAPE, "initial_trials": 4, "seed": 3}
    straight, broken = (make(proposer=proposer, **given) for _ in range(2))
    folder = broken.folder
    for number in range(6):
        for study in (straight, broken):
            trial = study.ask()
            study.tell(trial.index, {"loss": 1 / (1 + float(trial.arm["lora_rank"]))})
        if number in (1, 4):
            broken.close()
            broken = Study.open(folder)
    assert broken.trials == straight.trials
    assert [trial.origin for trial in broken.trials] == ["sobol"] * 4 + [proposer] * 2
    broken.close()


def test_only_what_keeps_the_constraints_is_on_the_front(make: Make) -> None:
    study = make(constraints=["loss >= 1.0", "rouge_1 >= 0.2"], objectives=[GOALS[1]])
    for loss, rouge_l, rouge_1 in ((0.9, 0.9, 0.5), (1.0, 0.5, 0.2), (2.0, 0.8, 0.1), (2, 0.6, 1)):
        values = {"loss": loss, "rouge_l": rouge_l, "rouge_1": rouge_1}
        study.tell(study.ask().index, values)
    study.fail(study.ask().index, "x")
    assert [trial.index for trial in study.eligible()] == [1, 3]
    assert [trial.index for trial in study.front()] == [3]
    assert study.hypervolume() == pytest.approx(0.6)
    assert study.hypervolume_trace() == pytest.approx([0.0, 0.5, 0.5, 0.6, 0.6])
    study.close()
    with Study.open(study.folder) as again:
        assert again.constraints == study.constraints
        assert [str(one) for one in again.constraints] == ["loss >= 1", "rouge_1 >= 0.2"]
        assert [trial.index for trial in again.front()] == [3]


def test_where_no_trial_keeps_the_constraints_the_front_is_empty(make: Make) -> None:
    goals = [Objective("loss", "minimize"), GOALS[1]]
    study = make(constraints=["loss <= 0.1"], objectives=goals)
    told(study, (2.0, 0.5), (1.0, 0.2), (2.5, 0.4))
    # The reference is still that of the initial trials: it says what was seen, not what is kept.
    assert study.objectives[0].reference == pytest.approx(2.1)
    assert (study.front(), study.hypervolume()) == ([], 0.0)
    assert study.hypervolume_trace() == [0.0, 0.0, 0.0]


def test_a_constrained_metric_must_be_told(make: Make) -> None:
    study = make(constraints=["rouge_1 >= 0.2"], metrics=["rouge_1"])
    trial = study.ask()
    with pytest.raises(MeasurementError, match="expected rouge_1"):
        study.tell(trial.index, GOOD)
    study.tell(trial.index, {**GOOD, "rouge_1": 0.1})


@pytest.mark.parametrize("metrics", [["rouge_1"], None])
def test_a_constrained_closed_form_is_counted_and_not_told(
    make: Make, metrics: list[str] | None
) -> None:
    study = make(
        constraints=["trainable_params <= 640", "cost <= 4"],
        metrics=metrics,
        shape=SHAPE,
        exact={"cost": lambda arm: float(arm["lora_rank"])},
    )
    done = [study.tell(study.ask().index, GOOD) for _ in range(8)]
    for trial in done:
        assert trial.measurements["trainable_params"].mean == study.trainable_params(trial)
    small = [t for t in done if t.plan and t.plan.adapter.total_rank <= 10]
    expected = [trial for trial in small if int(trial.arm["lora_rank"]) <= 4]
    assert study.eligible() == expected
    assert 0 < len(expected) < len(small) < len(done)


def test_a_study_of_an_earlier_version_has_no_constraints(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(created: Created) -> dict[str, Any]:
        return {key: value for key, value in asdict(created).items() if key != "constraints"}

    with monkeypatch.context() as earlier:
        earlier.setattr(Created, "as_dict", without)
        study = make()
        trial = study.ask()
        study.close()
    with Study.open(study.folder) as again:
        assert again.constraints == ()
        again.tell(trial.index, GOOD)
        assert len(again.front()) == 1


def searched(study: Study, count: int) -> Study:
    """Runs a search whose loss falls with the rank, and whose ROUGE-1 falls with it too."""
    for _ in range(count):
        trial = study.ask()
        rank = 0 if trial.plan is None else trial.plan.adapter.total_rank
        values = {"loss": Measurement(3 / (1 + rank), 0.01), "rouge_1": Measurement(-rank, 0.5)}
        study.tell(trial.index, values)
    return study


@pytest.mark.parametrize("text", ["trainable_params <= 1280", "rouge_1 >= -20"])
def test_the_search_keeps_to_the_allowed_side(make: Make, text: str) -> None:
    """Total ranks are ..., 12, 16, 24, ...: of twenty, which either bound allows, 16 is next."""
    given: dict[str, Any] = {"objectives": [GOALS[0]], "proposer": "gp_nehvi", "shape": SHAPE}
    given |= {"initial_trials": 8, "metrics": ["rouge_1"]}
    bound, free = searched(make(constraints=[text], **given), 14), searched(make(**given), 14)
    ranks = [
        [t.plan.adapter.total_rank for t in study.trials[8:] if t.plan] for study in (bound, free)
    ]
    assert min(ranks[1]) > 20  # without the bound, more is better
    assert max(ranks[0]) == 16


@pytest.mark.parametrize("text", ["trainable_params <= 1280", "rouge_1 >= -20"])
@pytest.mark.parametrize("proposer", ["saas_nehvi", "gp_nehvi"])
@pytest.mark.slow
def test_a_resumed_study_with_constraints_asks_what_it_would_have_asked(
    make: Make, proposer: str, text: str
) -> None:
    given: dict[str, Any] = {"objectives": [GOALS[0]], "proposer": proposer, "shape": SHAPE}
    given |= {"constraints": [text], "initial_trials": 4}
    straight, broken = searched(make(**given), 7), make(**given)
    folder = broken.folder
    for _ in range(7):
        searched(broken, 1).close()
        broken = Study.open(folder)
    assert broken.trials == straight.trials
    broken.close()
