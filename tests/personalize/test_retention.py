"""What adapters cost on other users' texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from milp_search.adapters.jobs import Answer, PredictJob
from milp_search.core.errors import SpecError
from milp_search.core.plan import AdapterPlan
from milp_search.personalize.retention import (
    check_other_targets,
    others_examples,
    retention_costs,
)
from milp_search.personalize.run import METHODS, Split, answer, train
from personalize.echo import Echo
from personalize.making import USERS, Recorder, item, plan, run_of, task

VALIDATION = [user.validation for user in task().targets]


class Worked(Recorder):
    """Anna's texts have one token, others three; the base loses 1, a stack 2 on anna's or 1.5."""

    def predict(self, jobs: Sequence[PredictJob]) -> list[list[Answer]]:
        self.asked += jobs
        answers = []
        for job in jobs:
            of_anna = ["anna" in example.response for example in job.examples]
            answers.append(
                [
                    Answer((2.0 if anna else 1.5) if job.adapters else 1.0, 1 if anna else 3, None)
                    for anna in of_anna
                ]
            )
        return answers


def test_the_texts_are_the_other_targets_held_out_ones_alone_in_their_prompts() -> None:
    examples = others_examples(VALIDATION, 1, "bert")
    assert {example.response for example in examples} == {
        f" tea is fine r{user}valid{n}." for user in ("anna", "cleo", "dora") for n in range(2)
    }
    assert {example.prompt for example in examples} == {
        f"Question: what of tea, q{user}valid{n}?\nAnswer:"
        for user in ("anna", "cleo", "dora")
        for n in range(2)
    }


def test_many_texts_are_drawn_without_repetition_and_always_the_same() -> None:
    held_out = [[item(user, "valid", n) for n in range(60)] for user in USERS]
    drawn = others_examples(held_out, 0, "anna")
    assert len(set(drawn)) == 32
    assert drawn == others_examples(held_out, 0, "anna")
    assert set(drawn) != set(others_examples(held_out, 0, "another"))


def test_the_cost_is_the_loss_per_token_with_the_stack_less_the_base_s() -> None:
    run = run_of(plan("oppu"), Worked())
    found = retention_costs(run, train(run).stacks, VALIDATION)
    # Of anna's others all have three tokens: 1.5 - 1. The others meet two texts of anna's, one
    # token each, and four texts of three: (2 * 2 + 12 * 1.5) / 14 - 1.
    mixed = pytest.approx((4 + 18) / 14 - 1)
    assert found == {"anna": 0.5, "bert": mixed, "cleo": mixed, "dora": mixed}


def test_without_an_adapter_the_cost_is_nought_and_nothing_is_asked() -> None:
    recorder = Recorder()
    run = run_of(plan("logo", AdapterPlan((0, 0, 0))), recorder)
    assert retention_costs(run, train(run).stacks, VALIDATION) == dict.fromkeys(USERS, 0.0)
    assert recorder.asked == []


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_measured_on_held_out_texts_of_the_split_alone(
    method: str, split: Split
) -> None:
    recorder = Echo()
    run = run_of(plan(method), recorder)
    trained = train(run)
    recorder.asked.clear()
    found = answer(run, trained, split, generate=True, retention=True)
    assert list(found.retention) == list(USERS)
    costs = [job for job in recorder.asked if not job.generate]
    if trained.respond is None:
        assert len(costs) == (1 + len(USERS) if any(trained.stacks.values()) else 0)
    shown = "".join(example.prompt for job in costs for example in job.examples)
    for part in ("past", "valid", "test"):
        assert (part in shown) == (bool(costs) and split.startswith(part))


def test_a_single_target_has_no_others() -> None:
    check_other_targets(task())
    alone = replace(task(), targets=task().targets[:1])
    with pytest.raises(SpecError, match=r"at least 2 target users .* got 1"):
        check_other_targets(alone)
