"""Answers and budget as several processes share them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from endpoint.server import serving, slow
from milp_search.core.chat import BudgetExhausted, ChatReply
from milp_search.endpoint.token_budget import Spent, TokenBudget

ASK = """
import sys
from pathlib import Path
from milp_search.core.chat import ChatRequest, Message
from milp_search.core.settings import EndpointSettings
from milp_search.endpoint.client import Endpoint
from milp_search.endpoint.response_cache import ResponseCache
from milp_search.endpoint.token_budget import TokenBudget
folder, url = Path(sys.argv[1]), sys.argv[2]
asking = Endpoint(
    EndpointSettings("tiny", base_url=url), ResponseCache(folder / "responses"),
    TokenBudget(folder / "tokens.json", 1000),
)
questions = [ChatRequest((Message("user", letter),), 4) for letter in "abcd"]
print("".join(reply.text for reply in asking.ask(questions)))
"""

SET_ASIDE = """
import sys
from pathlib import Path
from milp_search.endpoint.token_budget import TokenBudget
TokenBudget(Path(sys.argv[1]), 100).set_aside(60)
"""


def test_processes_that_ask_the_same_pay_once(tmp_path: Path) -> None:
    with serving(*[slow(0.5)] * 4) as server:
        command = [sys.executable, "-c", ASK, str(tmp_path), server.url]
        both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        assert [process.communicate(timeout=60)[0] for process in both] == ["ABCD\n"] * 2
    assert len(server.asked) == 4
    assert TokenBudget(tmp_path / "tokens.json").spent() == Spent(28, 12, 0)


def test_what_a_dead_process_had_set_aside_counts_as_used(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    subprocess.run([sys.executable, "-c", SET_ASIDE, str(file)], check=True)
    budget = TokenBudget(file, 100)
    name = budget.set_aside(40)
    assert name is not None
    budget.book(name, ChatReply("", 5, 2))
    assert budget.spent() == Spent(5, 2, 60)
    with pytest.raises(BudgetExhausted, match="67 of 100"):
        budget.set_aside(34)
    budget.set_aside(33)


def test_tokens_that_others_still_hold_are_waited_for_but_not_for_ever(tmp_path: Path) -> None:
    budget = TokenBudget(tmp_path / "tokens.json", 100)
    name = budget.set_aside(60)
    assert name is not None
    assert budget.set_aside(60) is None
    with pytest.raises(BudgetExhausted):
        budget.set_aside(60, last=True)
    budget.book(name, None, counted=False)
    assert budget.spent().total == 0
    assert budget.set_aside(60) is not None


def held_elsewhere(file: Path, tokens: int) -> str:
    """Lets a process of another machine set tokens aside and returns under which name."""
    name = TokenBudget(file, 100).set_aside(tokens)
    assert name is not None
    account = json.loads(file.read_text())
    account["held"][name]["host"] = "node-that-is-gone"
    file.write_text(json.dumps(account))
    return name


def test_what_another_machine_holds_is_named_and_given_back_by_a_new_driver(tmp_path: Path) -> None:
    budget = TokenBudget(tmp_path / "tokens.json", 100)
    name = held_elsewhere(budget.path, 60)
    assert budget.set_aside(50) is None
    with pytest.raises(BudgetExhausted, match="0 of 100 tokens are booked, 60 are set aside, and"):
        budget.set_aside(50, last=True)
    budget.book_held()
    assert budget.spent() == Spent(0, 0, 60)
    # It was alive after all: what was booked is the most that it can have taken.
    budget.book(name, ChatReply("", 5, 2))
    assert budget.spent() == Spent(0, 0, 60)
    assert budget.set_aside(40) is not None


def test_the_account_is_private_and_holds_no_text(tmp_path: Path) -> None:
    budget = TokenBudget(tmp_path / "sub" / "tokens.json")
    budget.set_aside(10**9)
    assert (tmp_path / "sub").stat().st_mode & 0o777 == 0o700
    for file in (tmp_path / "sub").iterdir():
        assert file.stat().st_mode & 0o777 == 0o600
    assert str(os.getpid()) in budget.path.read_text()
