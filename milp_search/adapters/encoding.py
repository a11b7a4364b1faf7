"""Texts to token ids: prompt and response apart, so that the border never moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from milp_search.adapters.chat_template import ChatFrame, chat_frame, require_room
from milp_search.adapters.jobs import Example
from milp_search.adapters.prompt import assistant_turn, user_turn
from milp_search.core.settings import TrainingSettings


@dataclass(frozen=True)
class Encoded:
    """Token ids of one example: what is given, and what is supervised (end token included)."""

    prompt: tuple[int, ...]
    response: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.response)

    @property
    def border(self) -> int:
        """Where the targets begin; the very first token has nothing before it and is none."""
        return max(len(self.prompt), 1)

    @property
    def supervised(self) -> int:
        """The number of targets."""
        return len(self) - self.border


def encode(
    tokenizer: Any, example: Example, max_length: int, frame: ChatFrame | None = None
) -> Encoded:
    """Returns an example's token ids, at most `max_length` in all.

    A prompt that is too long loses its oldest part, a response that alone is too long its end.
    The start token stands before the prompt, or before the response where there is no prompt.
    With a frame, prompt and response are turns of a chat; a text without prompt stays plain.
    """
    if frame is not None and example.prompt:
        return _encode_turns(tokenizer, example, max_length, frame)
    start = _start(tokenizer)
    response = (*text_tokens(tokenizer, example.response), tokenizer.eos_token_id)
    response = response[: max_length - len(start)]
    room = max_length - len(start) - len(response)
    return Encoded((*start, *latest(text_tokens(tokenizer, example.prompt), room)), response)


def encode_prompt(
    tokenizer: Any, prompt: str, max_length: int, frame: ChatFrame | None = None
) -> Encoded:
    """Returns the token ids of a prompt to be continued, at most `max_length`.

    It must not know the response, not even by its length: `encode` cuts the prompt by it. Where
    there is nothing to continue, the end token stands for the end of a text before.
    """
    if frame is not None and prompt:
        return Encoded(_asked(tokenizer, prompt, max_length, frame), ())
    start = _start(tokenizer)
    room = max(max_length - len(start), 1)
    tokens = (*start, *latest(text_tokens(tokenizer, prompt), room))
    return Encoded(tokens or (tokenizer.eos_token_id,), ())


class PromptEncoder:
    """Turns examples into token ids as a base's tokenizer and the settings say.

    `frame` is the chat template around prompt and response, None where there is none.
    """

    def __init__(self, tokenizer: Any, settings: TrainingSettings):
        self.frame = chat_frame(tokenizer, settings.chat_template)
        require_room(self.frame, settings.max_length, settings.max_new_tokens)
        self._tokenizer, self._settings = tokenizer, settings

    def encode(self, example: Example, kept: int = 0) -> Encoded:
        """Returns an example to learn from or to measure, with `kept` tokens less than allowed."""
        length = self._settings.max_length - kept
        return encode(self._tokenizer, example, length, self.frame)

    def encode_prompt(self, example: Example, kept: int = 0) -> Encoded:
        """Returns an example's prompt, to be continued, with `kept` tokens less than allowed."""
        room = self._settings.max_length - self._settings.max_new_tokens - kept
        return encode_prompt(self._tokenizer, example.prompt, room, self.frame)

    @property
    def ends(self) -> tuple[int, ...]:
        """The tokens that end a generation: the end token and, in a chat, the end of a turn."""
        end = int(self._tokenizer.eos_token_id)
        return (end,) if self.frame is None else tuple(dict.fromkeys((end, self.frame.end)))


def training_batch(
    rows: Sequence[Encoded], pad: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns ids, attention mask and targets (rows x length each), padded on the right.

    Targets are -100 wherever a token is not supervised; the very first token of a row has
    nothing before it and is never a target.
    """
    length = max(map(len, rows))
    ids = torch.full((len(rows), length), pad)
    mask = torch.zeros((len(rows), length), dtype=torch.long)
    targets = torch.full((len(rows), length), -100)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row.prompt + row.response)
        mask[place, : len(row)] = 1
        targets[place, row.border : len(row)] = ids[place, row.border : len(row)]
    return ids.to(device), mask.to(device), targets.to(device)


def generation_batch(
    rows: Sequence[Encoded], pad: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns prompt ids and attention mask (rows x length each), padded on the left."""
    length = max(len(row.prompt) for row in rows)
    ids = torch.full((len(rows), length), pad)
    mask = torch.zeros((len(rows), length), dtype=torch.long)
    for place, row in enumerate(rows):
        ids[place, length - len(row.prompt) :] = torch.tensor(row.prompt)
        mask[place, length - len(row.prompt) :] = 1
    return ids.to(device), mask.to(device)


def _encode_turns(tokenizer: Any, example: Example, max_length: int, frame: ChatFrame) -> Encoded:
    response = (*text_tokens(tokenizer, assistant_turn(example.response)), *frame.after)
    response = response[: max_length - frame.given]
    return Encoded(_asked(tokenizer, example.prompt, max_length - len(response), frame), response)


def _asked(tokenizer: Any, prompt: str, max_length: int, frame: ChatFrame) -> tuple[int, ...]:
    query = latest(text_tokens(tokenizer, user_turn(prompt)), max_length - frame.given)
    return (*frame.before, *query, *frame.between)


def _start(tokenizer: Any) -> tuple[int, ...]:
    return () if tokenizer.bos_token_id is None else (tokenizer.bos_token_id,)


def text_tokens(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Returns a text's token ids, never a special token among them."""
    # Split: a user who writes "</s>" means these four characters and no end token.
    # Not verbose: long texts are cut by us, and the tokenizer would warn of their length.
    encoded = tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)
    return tuple(encoded["input_ids"])


def latest(tokens: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Returns the last tokens, so many at most."""
    return tokens[max(len(tokens) - count, 0) :]
