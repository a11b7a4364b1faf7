"""What will be asked, counted without asking."""

from __future__ import annotations

from milp_search.core.plan import AdapterPlan, TrialPlan
from milp_search.core.records import Interaction, PersonalizationTask, UserTask
from milp_search.core.settings import TrainingSettings
from milp_search.core.trial import Objective
from milp_search.dispatch.rehearsal import rehearse
from milp_search.study.spec import Budget, StudySpec


def user(name: str) -> UserTask:
    item = Interaction(name, "tea?", f"milk for {name}", 1.0)
    return UserTask(name, (item,), (item, Interaction(name, "more?", "yes", 2.0)), ())


TASK = PersonalizationTask("t", "text", (user("anna"), user("bert")))
SPEC = StudySpec(
    space="logo_blackbox",
    objectives=(Objective("rouge_l", "maximize"),),
    budget=Budget(trials=10),
    initial_trials=5,
    training=TrainingSettings(max_new_tokens=6),
    test_seeds=(1, 2),
)


def plan(**changes: int | bool) -> TrialPlan:
    values = {"time_splits": 0, "communities": 0, "retrieved_items": 0, **changes}
    return TrialPlan("chat", AdapterPlan(()), **values)  # type: ignore[arg-type]


def test_equal_questions_count_once_and_answers_are_as_long_as_they_may_be() -> None:
    # Both users ask the same two questions, and nothing of the users stands in the prompts.
    found = rehearse(SPEC, TASK, [plan()])
    assert (found.questions, found.answer_tokens) == (2, 2 * 6)
    # Ten trials, and eight of a front with two seeds each.
    assert found.runs == 26
    assert found.study_answer_tokens == 26 * 12


def test_notes_and_knowledge_are_counted_over_a_mean_of_plans() -> None:
    # Two users' notes of three lines, forty tokens a line, then four answers.
    notes = plan(profile=True, summary_lines=3)
    assert rehearse(SPEC, TASK, [notes]).questions == 2 + 4
    assert rehearse(SPEC, TASK, [notes]).answer_tokens == 2 * 3 * 40 + 4 * 6
    assert rehearse(SPEC, TASK, [plan(), notes]).questions == 4
    longer = plan(profile=True, summary_lines=6)
    assert (
        rehearse(SPEC, TASK, [longer]).prompt_tokens > rehearse(SPEC, TASK, [notes]).prompt_tokens
    )
