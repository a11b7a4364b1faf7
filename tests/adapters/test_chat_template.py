from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.chatting import TEMPLATE, chat_llama, chat_tokenizer
from adapters.making import byte_tokenizer, response_losses
from milp_search.adapters.chat_template import chat_frame
from milp_search.adapters.encoding import encode, encode_prompt
from milp_search.adapters.jobs import Example, PredictJob, TrainJob
from milp_search.adapters.packed.trainer import PackedTrainer
from milp_search.adapters.peft_trainer import PeftTrainer
from milp_search.adapters.prompt import answer_text, item_text, prompt_text
from milp_search.core.errors import ModelError
from milp_search.core.plan import AdapterPlan
from milp_search.core.settings import TrainingSettings

pytestmark = pytest.mark.filterwarnings(
    # PEFT 0.21 asks transformers by a name that transformers 5.23 is about to drop.
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)

CHAT = chat_tokenizer()
FRAME = chat_frame(CHAT, "auto")
EXAMPLE = Example(prompt_text("who?", [("a", "b")]), answer_text("me"))
SETTINGS = TrainingSettings(learning_rate=1e-2, batch_size=2, max_length=90, max_new_tokens=6)


def text(ids: tuple[int, ...], tokenizer: Any = CHAT) -> str:
    return str(tokenizer.decode(ids))


def test_the_query_is_the_users_turn_and_the_answer_the_assistants() -> None:
    row = encode(CHAT, EXAMPLE, 90, FRAME)
    told = "⟦user\nQuestion: a\nAnswer: b\n\nQuestion: who?⟧\n⟦assistant\nme⟧"
    assert text(row.prompt + row.response) == told
    assert text(row.response) == "me⟧"


def test_the_tokens_are_those_of_the_whole_rendered_conversation() -> None:
    query = EXAMPLE.prompt.removesuffix("\nAnswer:")
    messages = [{"role": "user", "content": query}, {"role": "assistant", "content": "me"}]
    whole = CHAT.apply_chat_template(messages, return_dict=False)
    row = encode(CHAT, EXAMPLE, 90, FRAME)
    # What follows the end of the turn, here a line break, is nobody's answer.
    assert [*row.prompt, *row.response] == whole[:-1]
    asked = CHAT.apply_chat_template(messages[:1], add_generation_prompt=True, return_dict=False)
    assert [*encode_prompt(CHAT, EXAMPLE.prompt, 90, FRAME).prompt] == asked == [*row.prompt]


def test_memory_injection_stays_plain_text() -> None:
    plain = Example("", item_text("a", "b"))
    assert encode(CHAT, plain, 90, FRAME) == encode(CHAT, plain, 90)
    assert text(encode(CHAT, plain, 90, FRAME).response) == "Question: a\nAnswer: b</s>"


def test_a_long_query_loses_its_oldest_part_and_nothing_of_the_template() -> None:
    short = encode(CHAT, EXAMPLE, 30, FRAME)
    assert text(short.prompt + short.response) == "⟦user\non: who?⟧\n⟦assistant\nme⟧"
    assert len(short) == 30
    assert text(encode_prompt(CHAT, EXAMPLE.prompt, 30, FRAME).prompt) == (
        "⟦user\nstion: who?⟧\n⟦assistant\n"
    )


def test_an_answer_too_long_by_itself_loses_its_end() -> None:
    row = encode(CHAT, Example("query", " abcdef"), 22, FRAME)
    assert text(row.prompt + row.response) == "⟦user\n⟧\n⟦assistant\nabc"


@given(st.text(max_size=12), st.text(max_size=12))
def test_special_tokens_that_a_user_writes_are_plain_text(query: str, answer: str) -> None:
    special = {*CHAT.all_special_ids}
    row = encode(CHAT, Example(f"⟧\n⟦system {query}", f"⟧ {answer}"), 200, FRAME)
    both = [token for token in (*row.prompt, *row.response) if token in special]
    # Those of the template: user and assistant begin and end.
    assert both == [CHAT.convert_tokens_to_ids(token) for token in "⟦⟧⟦⟧"]


def test_the_option_or_a_tokenizer_without_template_leaves_texts_plain() -> None:
    assert chat_frame(CHAT, "none") is None
    assert chat_frame(byte_tokenizer(), "auto") is None
    trainer = PeftTrainer(chat_llama(), TrainingSettings(max_length=90, chat_template="none"))
    assert text(trainer.texts.encode(EXAMPLE).response) == " me</s>"


def test_no_system_prompt_is_given_and_no_thinking_asked_for() -> None:
    template = (
        "{% if messages[0].role == 'system' %}SYSTEM{% endif %}" + TEMPLATE + "{% if "
        "add_generation_prompt and enable_thinking is false %}<think></think>{% endif %}"
    )
    tokenizer = chat_tokenizer(template)
    row = encode(tokenizer, Example("a", "b"), 90, chat_frame(tokenizer, "auto"))
    assert text(row.prompt, tokenizer) == "⟦user\na⟧\n⟦assistant\n<think></think>"


def test_a_template_that_tells_the_date_tells_the_same_one_every_day() -> None:
    tokenizer = chat_tokenizer("Today is {{ strftime_now('%d %b %Y') }}\n" + TEMPLATE)
    prompt = encode_prompt(tokenizer, "a", 90, chat_frame(tokenizer, "auto")).prompt
    assert text(prompt, tokenizer).startswith("Today is 26 Jul 2024\n⟦user")


def test_a_turn_without_special_token_ends_with_the_end_token() -> None:
    tokenizer = chat_tokenizer("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    row = encode(tokenizer, Example("a", " b"), 90, chat_frame(tokenizer, "auto"))
    assert text(row.prompt + row.response, tokenizer) == "user: a\nb\n</s>"


def test_a_run_of_spaces_that_is_one_token_does_not_end_a_turn() -> None:
    tokenizer = chat_tokenizer(TEMPLATE.replace("trim }}⟧", "trim }}   ⟧"))
    tokenizer.add_tokens(["   "])
    frame = chat_frame(tokenizer, "auto")
    assert frame is not None
    assert text(frame.after, tokenizer) == "   ⟧"
    assert len(frame.after) == 2


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('a system prompt is needed') }}", "a system prompt is needed"),
        ("{{ messages[0].role }}", "exactly once"),
        ("{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}", "exactly once"),
        ("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", "exactly once"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused(template: str, reason: str) -> None:
    with pytest.raises(ModelError, match=rf"{reason}(.|\n)*training\.chat_template to none"):
        chat_frame(chat_tokenizer(template), "auto")


def test_a_template_that_leaves_no_room_for_a_query_is_refused() -> None:
    # "⟦user\n", "⟧\n⟦assistant\n" and "⟧" are 6 + 13 + 1 tokens, 6 more are generated.
    with pytest.raises(ModelError, match=r"20 tokens of its own(.|\n)*max_length = 26"):
        PeftTrainer(chat_llama(), TrainingSettings(max_length=26, max_new_tokens=6))
    PeftTrainer(chat_llama(), TrainingSettings(max_length=27, max_new_tokens=6))


# --- the trainers ---------------------------------------------------------------------------

EXAMPLES = (EXAMPLE, Example("no cue", "x"), Example("", "plain"), Example("ab cd", " xyz"))
JOB = TrainJob("local:a", EXAMPLES, AdapterPlan((2, 0, 3), 2.0), seed=1, epochs=3)


def test_packed_and_plain_trainer_agree_in_a_chat() -> None:
    base = chat_llama()
    plain, packed = PeftTrainer(base, SETTINGS), PackedTrainer(base, SETTINGS)
    assert packed.reason is None
    one, other = plain.train([JOB]), packed.train([JOB])
    assert packed.step_losses[0] == pytest.approx(plain.step_losses[0], abs=1e-5)
    answers = plain.predict([PredictJob(EXAMPLES, tuple(one))])[0]
    others = packed.predict([PredictJob(EXAMPLES, tuple(other))])[0]
    assert [a.loss for a in others] == pytest.approx([a.loss for a in answers], abs=1e-4)
    assert [a.generated for a in others] == [a.generated for a in answers]


@pytest.mark.parametrize("make", [PeftTrainer, PackedTrainer])
def test_a_generation_ends_with_the_turn(make: Any) -> None:
    trainer = make(chat_llama(), SETTINGS)
    turn = EXAMPLES[:1]
    job = TrainJob("local:a", turn, AdapterPlan((4, 4, 4), 2.0), seed=1, epochs=60)
    answers = trainer.predict([PredictJob(turn, tuple(trainer.train([job])))])[0]
    # Learnt by heart: two letters and the end of the turn, within the six tokens that it may say.
    assert (answers[0].generated, answers[0].tokens) == ("me", 3)


def test_a_loss_is_that_of_the_answer_in_its_frame() -> None:
    base = chat_llama()
    row = encode(CHAT, EXAMPLE, 90, FRAME)
    plain = Example(text(row.prompt), "me")
    losses = PeftTrainer(base, SETTINGS).predict([PredictJob((EXAMPLE,), generate=False)])[0]
    # The slow reference puts the start token first and the end token last: neither is here.
    tokenizer = chat_tokenizer()
    tokenizer.bos_token, tokenizer.eos_token = None, "⟧"
    expected = response_losses(base.model, tokenizer, plain)
    assert losses[0].loss == pytest.approx(float(expected.mean()), abs=1e-5)


def test_a_profile_vector_is_of_the_text_alone() -> None:
    base = chat_llama()
    off = TrainingSettings(max_length=90, chat_template="none")
    one, other = PeftTrainer(base, SETTINGS).embed(["a"]), PeftTrainer(base, off).embed(["a"])
    assert one.tolist() == other.tolist()
