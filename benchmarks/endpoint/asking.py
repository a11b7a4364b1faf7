"""A client as a study's worker is one: it asks all questions, and goes on with those that it has.

    python benchmarks/endpoint/asking.py FOLDER URL QUESTIONS BUDGET

Exit code 0: all are answered; 4: the server counts as out of order; 5: the budget is used up.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from milp_search.core.chat import BudgetExhausted, ChatRequest, EndpointError, Message
from milp_search.core.settings import EndpointSettings
from milp_search.endpoint.client import Endpoint
from milp_search.endpoint.response_cache import ResponseCache
from milp_search.endpoint.token_budget import TokenBudget

DONE, OUT_OF_ORDER, USED_UP = 0, 4, 5
MODEL = "faulty"
TIME_LIMIT_S = 2.0


def questions(count: int) -> list[ChatRequest]:
    """Returns questions of 5 to 60 words, the same ones each time."""
    draw = random.Random(count)
    texts = (" ".join(["word"] * draw.randint(5, 60)) for _ in range(count))
    return [ChatRequest((Message("user", f"{n} {text}"),), 16) for n, text in enumerate(texts)]


def client(folder: Path, url: str, budget: int) -> Endpoint:
    """Returns a client with the folder's answers and account."""
    settings = EndpointSettings(MODEL, base_url=url, time_limit_s=TIME_LIMIT_S)
    account = TokenBudget(folder / "tokens.json", budget)
    return Endpoint(settings, ResponseCache(folder / "responses"), account)


def ask_all(folder: Path, url: str, count: int, budget: int) -> int:
    """Asks what is not answered yet; returns the exit code."""
    try:
        client(folder, url, budget).ask(questions(count))
    except BudgetExhausted:
        return USED_UP
    except EndpointError:
        return OUT_OF_ORDER
    return DONE


if __name__ == "__main__":
    sys.exit(ask_all(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
