"""What answers cost: by job, and by study."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from milp_search.core.chat import ChatReply, ChatRequest, Message
from milp_search.core.settings import EndpointSettings
from milp_search.core.trial import Objective
from milp_search.dispatch.paying import Metered, account_lines, paid_metrics
from milp_search.endpoint.token_budget import TokenBudget
from milp_search.study.spec import StudySpec

FREE = EndpointSettings("m")
PRICED = replace(FREE, prompt_price=2.0, answer_price=10.0, currency="EUR", token_budget=5000)
SPEC = StudySpec(space="logo_blackbox", objectives=(Objective("rouge_l", "maximize"),))


class Counted:
    """Answers what it is told to, in twelve tokens; questions that begin with an a are paid."""

    def ask(self, requests: list[ChatRequest]) -> list[ChatReply]:
        return [
            ChatReply("", 10, 2, paid=request.messages[0].content.startswith("a"))
            for request in requests
        ]


def book(budget: TokenBudget, held: int, reply: ChatReply | None) -> None:
    name = budget.set_aside(held)
    assert name is not None
    budget.book(name, reply)


def question(text: str) -> ChatRequest:
    return ChatRequest((Message("user", text),), 4)


def test_a_question_counts_once_and_only_where_it_was_paid_for() -> None:
    model = Metered(Counted(), PRICED, "judge_")
    model.ask([question("a1"), question("a1"), question("b")])
    model.ask([question("a1"), question("a2")])
    means = {name: value.mean for name, value in model.paid().items()}
    # Two questions: 20 and 4 tokens, at 2 and 10 a million.
    assert means == {"judge_paid_tokens": 24.0, "judge_paid_money": 8e-5}


def test_without_both_prices_there_is_no_money() -> None:
    for settings in (FREE, replace(FREE, prompt_price=1.0), replace(FREE, answer_price=1.0)):
        assert settings.money(10, 2) is None
        assert set(Metered(Counted(), settings).paid()) == {"paid_tokens"}
    assert replace(FREE, prompt_price=0.0, answer_price=0.0).money(10, 2) == 0.0


def test_a_study_names_the_costs_of_what_it_asks() -> None:
    both = SPEC.model_copy(update={"endpoint": PRICED, "judge": FREE})
    assert paid_metrics(both, judged=True) == ["paid_tokens", "paid_money", "judge_paid_tokens"]
    assert paid_metrics(both, judged=False) == ["paid_tokens", "paid_money"]
    assert paid_metrics(SPEC, judged=False) == []


def test_the_account_is_told_with_its_money_and_what_is_not_known(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"endpoint": PRICED, "judge": FREE})
    assert account_lines(tmp_path, spec) == []
    budget, judge = (TokenBudget(tmp_path / name) for name in ("tokens.json", "judge-tokens.json"))
    book(budget, 2000, ChatReply("", 1000, 200))
    book(judge, 20, ChatReply("", 7, 3))
    of_judge = "judge's tokens: 10 (7 prompt, 3 answers); money unknown, no prices given"
    assert account_lines(tmp_path, spec) == [
        "tokens: 1,200 of 5,000 (1,000 prompt, 200 answers); 0.0040 EUR",
        of_judge,
    ]
    book(budget, 1000, None)
    # At most a thousand more, all of them answers.
    assert account_lines(tmp_path, spec)[0] == (
        "tokens: 2,200 of 5,000 (1,000 prompt, 200 answers, at most 1,000 of answers that never "
        "came); 0.0040 to 0.0140 EUR"
    )
