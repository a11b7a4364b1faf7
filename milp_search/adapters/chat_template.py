"""A tokenizer's chat template as token ids around what user and assistant say.

The template is rendered once, around two words that stand for the texts; the texts' own tokens are
put in their places afterwards. So a text never becomes one of the template's special tokens, and
what is cut from a long text is never part of the template.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from milp_search.core.errors import ModelError

ChatTemplate = Literal["auto", "none"]

# Plain letters: no template escapes, strips or cuts them.
_QUERY, _ANSWER = "QUERYPLACEHOLDER", "ANSWERPLACEHOLDER"
# ours: some templates tell today's date, by which no result may change. It is Llama 3's default.
_FIXED_DATE = "{% macro strftime_now(format) %}26 Jul 2024{% endmacro %}"


@dataclass(frozen=True)
class ChatFrame:
    """The template's own tokens.

    Attributes:
        before: Up to where the user's text begins, start token included.
        between: From the end of the user's text to where the answer begins.
        after: From the end of the answer to the token that ends the assistant's turn, included.
    """

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def given(self) -> int:
        """The number of tokens that are not supervised."""
        return len(self.before) + len(self.between)

    @property
    def end(self) -> int:
        """The token that ends the assistant's turn."""
        return self.after[-1]


def chat_frame(tokenizer: Any, option: ChatTemplate) -> ChatFrame | None:
    """Returns the frame of a tokenizer's chat template; None where there is none or it is off.

    No system prompt is given. The answer begins where the template's generation prompt ends, also
    in training; templates that can are told not to think aloud, as answers here are short. The
    turn ends with the first special token after the answer, or the end token where there is none.

    Raises ModelError if the template cannot be rendered as one query and one answer.
    """
    if option == "none" or tokenizer.chat_template is None:
        return None
    user = {"role": "user", "content": _QUERY}
    asked = _rendered(tokenizer, [user], add_generation_prompt=True)
    told = _rendered(tokenizer, [user, {"role": "assistant", "content": _ANSWER}])
    if asked.count(_QUERY) != 1 or told.count(_ANSWER) != 1:
        raise _unusable("it does not repeat what user and assistant say exactly once")
    before, between = asked.split(_QUERY)
    _, after = told.split(_ANSWER)
    return ChatFrame(_ids(tokenizer, before), _ids(tokenizer, between), _turn_end(tokenizer, after))


def require_room(frame: ChatFrame | None, max_length: int, max_new_tokens: int) -> None:
    """Raises ModelError if a chat template leaves no room for what user and assistant say."""
    own = 0 if frame is None else frame.given + len(frame.after)
    if own and own + max_new_tokens >= max_length:
        raise ModelError(
            f"the chat template has {own} tokens of its own, which with max_new_tokens = "
            f"{max_new_tokens} leave none of max_length = {max_length} for a query",
            remedy="Raise training.max_length, or set training.chat_template to none.",
        )


def _turn_end(tokenizer: Any, after: str) -> tuple[int, ...]:
    ids = _ids(tokenizer, after)
    # Added tokens need not be special: some are no more than runs of spaces.
    added = tokenizer.added_tokens_decoder.items()
    special = {*tokenizer.all_special_ids, *(token for token, kind in added if kind.special)}
    place = next((place for place, token in enumerate(ids) if token in special), None)
    return (*ids, int(tokenizer.eos_token_id)) if place is None else ids[: place + 1]


def _rendered(tokenizer: Any, messages: list[dict[str, str]], **options: bool) -> str:
    try:
        template = _FIXED_DATE + tokenizer.get_chat_template()
        text = tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, enable_thinking=False, **options
        )
    except Exception as error:  # templates are programs and fail in many ways
        raise _unusable((str(error).strip() or type(error).__name__).splitlines()[0]) from error
    return str(text)


def _ids(tokenizer: Any, text: str) -> tuple[int, ...]:
    # Not split: these special tokens are the template's own.
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def _unusable(reason: str) -> ModelError:
    return ModelError(
        f"cannot use the tokenizer's chat template for one query and one answer: {reason}",
        remedy="Set training.chat_template to none: then prompts are plain text.",
    )
