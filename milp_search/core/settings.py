"""Settings of data and training: plain values that the study file fills and the worker reads.

The extra class attribute tells pydantic, where it validates these types, to refuse unknown keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

BasePrecision = Literal["auto", "8bit", "4bit"]
"""The weights of a base model: as the device computes best, or quantised."""


@dataclass(frozen=True)
class DataSettings:
    """Where the users' histories come from and how they are split.

    Attributes:
        path: A file or folder; None is the embedded synthetic population.
        format: The layout, or `auto` to recognise it.
        task: What to make of records that serve several tasks (`text`, `LaMP_2N`, ...).
        targets: How many users to personalise for, the most active ones (LoGo, App. B.2).
        others: How many of the remaining users train the base; None is all of them.
        min_interactions: Users with fewer interactions are left out.
        max_history: Only a user's latest so many training interactions are kept.
        max_target_history: As `max_history`, of targets only.
        max_queries: Only so many validation and test queries per user are kept.
        validation: Share of a user's interactions held out for the search (MiLP: 70/10/20).
        test: Share held out for the final test, the latest ones.
        population: Settings of the synthetic population, by name.
        seed: Seed of everything that is drawn.
        forgotten: Marks of users who are left out after the split; `milp-search forget` writes
            them.
    """

    path: str | None = None
    format: Literal["auto", "synthetic", "jsonl", "lamp", "oppu", "malp"] = "auto"
    task: str | None = None
    targets: int = 100
    others: int | None = None
    min_interactions: int = 4
    max_history: int | None = None
    max_target_history: int | None = None
    max_queries: int | None = None
    validation: float = 0.1
    test: float = 0.2
    population: dict[str, Any] | None = None
    seed: int = 0
    forgotten: tuple[str, ...] = ()

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __hash__(self) -> int:
        return hash(repr(self))


@dataclass(frozen=True)
class TrainingSettings:
    """How adapters are trained and queries answered; defaults are MiLP's (section 3.3).

    Attributes:
        learning_rate: AdamW's peak learning rate.
        weight_decay: AdamW's weight decay.
        warmup: Share of the steps with rising learning rate.
        schedule: What comes after it: `linear` decay to zero, or a `constant` rate. Under decay
            the latest items of a chronological pass count least.
        batch_size: Examples per optimiser step.
        injection_epochs: Passes of memory injection over a user's history (MiLP).
        tuning_epochs: Passes of instruction tuning over a user's history.
        global_steps: Optimiser steps per community over the whole chain of periods, equal for
            every T and c so that neither is confounded with training length.
        base_training: How the base is fitted to the users who are not targets.
        base_epochs: Passes over their interactions.
        base_learning_rate: Peak learning rate of that stage.
        max_length: Tokens of one example; longer prompts lose their oldest part.
        max_new_tokens: Tokens of one generation.
        chat_template: `auto` asks and answers in the tokenizer's chat template where it has one;
            `none` in plain text always.
        embedding: What profile vectors are made of: `hidden`, the base's mean last hidden state;
            `tfidf`, weighted word counts reduced by SVD; or the folder or hub name of a
            sentence-embedding model.
        micro_batch: Largest number of examples in one forward pass; None is `batch_size`.
    """

    learning_rate: float = 5e-4
    weight_decay: float = 1e-4
    warmup: float = 0.1
    schedule: Literal["linear", "constant"] = "linear"
    batch_size: int = 8
    injection_epochs: int = 1
    tuning_epochs: int = 2
    global_steps: int = 40
    base_training: Literal["none", "lora", "full"] = "none"
    base_epochs: int = 1
    base_learning_rate: float = 5e-4
    max_length: int = 512
    max_new_tokens: int = 48
    chat_template: Literal["auto", "none"] = "auto"
    micro_batch: int | None = None
    embedding: str = "hidden"

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}


@dataclass(frozen=True)
class EndpointSettings:
    """A chat model behind an OpenAI-compatible server, and how hard it may be asked.

    The key is never a setting: it comes from the environment or a file.

    Attributes:
        model: The model's name, as the server knows it.
        base_url: The server's address with its path (`http://127.0.0.1:8000/v1`); None takes it
            from the variable OPENAI_BASE_URL.
        key_variable: The environment variable that holds the key.
        key_file: A file that holds the key instead.
        concurrency: So many questions are under way at once, in each worker.
        time_limit_s: So long one attempt may take, however much trickles in.
        attempts: How often a question is put before the server counts as out of order.
        longest_wait_s: A server that wants a longer pause counts as out of order.
        limit_name: How the server calls the bound on an answer's tokens.
        responses: The folder in which answers are kept, which may be that of other studies too;
            None keeps them in the study's own.
        token_budget: Prompt and answer tokens that the study may use in all; None is no limit.
        prompt_price: Money per million prompt tokens, for the report; None where not known.
        answer_price: Money per million answer tokens.
        currency: What the prices are in.
    """

    model: str
    base_url: str | None = None
    key_variable: str = "OPENAI_API_KEY"
    key_file: str | None = None
    concurrency: int = 8
    time_limit_s: float = 120.0
    attempts: int = 6
    longest_wait_s: float = 300.0
    limit_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    responses: str | None = None
    token_budget: int | None = None
    prompt_price: float | None = None
    answer_price: float | None = None
    currency: str = "USD"

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def money(self, prompt_tokens: float, answer_tokens: float) -> float | None:
        """Returns what so many tokens cost, in the currency; None where a price is not known."""
        if self.prompt_price is None or self.answer_price is None:
            return None
        return (prompt_tokens * self.prompt_price + answer_tokens * self.answer_price) / 1e6
