from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from adapters.encoders import ENCODERS, LABELS, encoder, film_kinds, word_tokenizer
from adapters.making import same, weights
from milp_search.adapters.base_fit import fit_base, load_fitted_base
from milp_search.adapters.base_model import as_base_model, load_base_model, read_shape
from milp_search.adapters.encoder_trainer import EncoderTrainer
from milp_search.adapters.export import save_adapter
from milp_search.adapters.jobs import Example, PredictJob, TrainJob
from milp_search.adapters.placed_base import place_base, rebuild_base
from milp_search.adapters.prompt import answer_text, item_text, prompt_text
from milp_search.core.errors import ModelError
from milp_search.core.model_shape import trainable_parameters
from milp_search.core.plan import AdapterPlan
from milp_search.core.settings import TrainingSettings

SETTINGS = TrainingSettings(
    learning_rate=2e-2, batch_size=8, max_length=40, base_training="full", base_epochs=6
)
PLAN = AdapterPlan((2, 0, 3), 2.0)


def films(user: int, count: int) -> tuple[Example, ...]:
    """Returns a user's films as examples."""
    pairs = film_kinds(user, count)
    return tuple(Example(prompt_text(film), answer_text(kind)) for film, kind in pairs)


EXAMPLES = (*films(1, 4), Example("", item_text("a film about a ship", "drama")))
JOB = TrainJob("local:a", EXAMPLES, PLAN, seed=1, epochs=3)


def by_hand(prompt: str, answer: str, base_model: object, places: int = 2) -> float:
    """Returns an answer's mean loss at the masks of one prompt, alone in its batch."""
    tokenizer = word_tokenizer()
    text = f"{prompt} {'<mask> ' * places}"
    tokens = [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.sep_token_id]
    with torch.no_grad():
        logits = base_model(input_ids=torch.tensor([tokenizer(text)["input_ids"]])).logits[0]  # type: ignore[operator]
    logs = logits[-1 - places : -1].log_softmax(-1)
    return -sum(float(logs[place, tokens[place]]) for place in range(places)) / places


@pytest.mark.parametrize("family", ENCODERS)
def test_the_choice_is_the_one_of_lowest_mean_loss_by_hand(family: str) -> None:
    base = encoder(family)
    found = EncoderTrainer(base, SETTINGS, LABELS).predict([PredictJob(films(1, 6))])[0]
    for example, answer in zip(films(1, 6), found, strict=True):
        losses = {label: by_hand(example.prompt, label, base.model) for label in LABELS}
        assert answer.generated == min(losses, key=losses.__getitem__)
        assert answer.loss == pytest.approx(losses[example.response.strip()], abs=1e-5)
        assert answer.tokens == 2


def test_what_is_chosen_does_not_depend_on_the_reference() -> None:
    trainer = EncoderTrainer(encoder(), SETTINGS, LABELS)
    asked = films(1, 6)
    others = tuple(replace(one, response=" war love sea") for one in asked)
    one, other = (trainer.predict([PredictJob(each)])[0] for each in (asked, others))
    assert [a.generated for a in one] == [a.generated for a in other]
    silent = trainer.predict([PredictJob(asked, generate=False)])[0]
    assert [a.loss for a in silent] == [a.loss for a in one]
    assert {a.generated for a in silent} == {None}


@pytest.mark.parametrize("family", ENCODERS)
def test_adapters_lower_the_loss_and_the_base_stays_as_it_is(family: str) -> None:
    base = encoder(family)
    before = weights(base.model)
    trainer = EncoderTrainer(base, SETTINGS, LABELS)
    adapter = trainer.train([replace(JOB, epochs=8)])[0]
    bare, after = (
        sum(answer.loss for answer in trainer.predict([PredictJob(EXAMPLES[:4], stack)])[0])
        for stack in ((), (adapter,))
    )
    assert after < bare - 1.0
    assert same(weights(base.model), before)
    size = sum(a.numel() + b.numel() for a, b in adapter.tensors.values())
    assert size == trainable_parameters(PLAN, base.shape.targets("all"))


def test_an_adapter_depends_on_its_job_alone_and_new_masks_come_in_every_pass() -> None:
    trainer = EncoderTrainer(encoder(), SETTINGS, LABELS)
    other = replace(JOB, key="local:b")
    alone, beside = trainer.train([JOB])[0], trainer.train([other, JOB])[1]
    assert all(
        torch.equal(x, y)
        for path in alone.tensors
        for x, y in zip(alone.tensors[path], beside.tensors[path], strict=True)
    )
    injected = replace(JOB, examples=EXAMPLES[4:], plan=replace(PLAN, alpha_over_rank=1e-9))
    trainer.train([replace(injected, epochs=12)])
    # Nothing is learned at this scale, so that the loss changes by what is masked alone.
    assert len({round(loss, 4) for loss in trainer.step_losses[0]}) > 2


def test_a_person_is_learnt_from_examples_by_a_model_trained_from_scratch(tmp_path: Path) -> None:
    # The base learns what most people call a film; the user shuffles the four kinds.
    base_settings = replace(SETTINGS, batch_size=16, base_learning_rate=4e-3)
    start = encoder(layers=2)
    fit_base(start, films(99, 400), base_settings, 0, tmp_path / "base", LABELS)
    base = load_fitted_base(start, "full", tmp_path / "base")
    trainer = EncoderTrainer(base, SETTINGS, LABELS)
    past, later = films(1, 100)[:60], films(1, 100)[60:]
    plan = AdapterPlan((8, 8), 2.0)
    adapters = trainer.train([TrainJob("local:a", past, plan, 1, epochs=12, shuffle=True)])

    def accuracy(examples: tuple[Example, ...], stack: tuple[object, ...]) -> float:
        answers = trainer.predict([PredictJob(examples, stack)])[0]  # type: ignore[arg-type]
        pairs = zip(answers, examples, strict=True)
        return sum(f" {a.generated}" == one.response for a, one in pairs) / len(examples)

    assert accuracy(films(99, 40), ()) > 0.9
    assert accuracy(later, ()) <= 0.25
    # Chance is .25 of the four kinds.
    assert accuracy(later, tuple(adapters)) > 0.6


def test_a_task_lora_is_merged_into_an_encoder(tmp_path: Path) -> None:
    settings = replace(SETTINGS, base_training="lora", base_learning_rate=1e-2)
    fit_base(encoder(), films(99, 24), settings, 0, tmp_path / "base", LABELS)
    fitted = load_fitted_base(encoder(), "lora", tmp_path / "base")
    losses = [
        sum(a.loss for a in EncoderTrainer(base, SETTINGS, LABELS)
            .predict([PredictJob(films(99, 24))])[0]) / 24
        for base in (encoder(), fitted)
    ]  # fmt: skip
    assert losses[1] < losses[0] - 0.5


@pytest.mark.parametrize("family", ENCODERS)
def test_peft_alone_loads_an_adapter_of_an_encoder(family: str, tmp_path: Path) -> None:
    base = encoder(family)
    trainer = EncoderTrainer(base, SETTINGS, LABELS)
    adapter = trainer.train([JOB])[0]
    save_adapter(tmp_path, adapter, base.shape, family, masked=True)
    expected = trainer.predict([PredictJob(EXAMPLES[:1], (adapter,))])[0][0]
    model = PeftModel.from_pretrained(encoder(family).model, tmp_path).eval()
    loss = by_hand(EXAMPLES[0].prompt, EXAMPLES[0].response, model)
    assert loss == pytest.approx(expected.loss, abs=1e-4)


@pytest.mark.parametrize("family", ENCODERS)
def test_an_encoder_is_read_from_its_folder_and_rebuilt_from_arrays(
    family: str, tmp_path: Path
) -> None:
    base = encoder(family)
    base.model.save_pretrained(tmp_path)
    base.tokenizer.save_pretrained(tmp_path)
    assert read_shape(str(tmp_path)) == base.shape
    again = load_base_model(str(tmp_path), device="cpu")
    assert again.masked
    assert same(weights(again.model), weights(base.model))
    assert same(weights(rebuild_base(place_base(again), "cpu").model), weights(base.model))


def test_a_texts_vector_is_the_mean_of_its_last_hidden_states() -> None:
    base = encoder()
    ids = torch.tensor([word_tokenizer()("a film")["input_ids"]])
    with torch.no_grad():
        states = base.model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0]
    vectors = EncoderTrainer(base, SETTINGS, LABELS).embed(["a film about a ship", "a film", ""])
    torch.testing.assert_close(vectors[1], states.mean(0), atol=1e-5, rtol=1e-4)
    assert vectors.shape == (3, 32)


# --- refusals -------------------------------------------------------------------------------


def test_free_text_is_refused() -> None:
    with pytest.raises(ModelError, match=r"cannot write text(.|\n)*labels or ratings"):
        EncoderTrainer(encoder(), SETTINGS, ())


def test_answers_that_leave_no_room_for_a_query_are_refused() -> None:
    EncoderTrainer(encoder(), replace(SETTINGS, max_length=5), LABELS)
    with pytest.raises(ModelError, match=r"answer of 2 tokens between(.|\n)*got 4"):
        EncoderTrainer(encoder(), replace(SETTINGS, max_length=4), LABELS)


def test_robertas_positions_begin_after_its_padding_token() -> None:
    # 64 positions less 2 for the padding token's id of 1; BERT has all of them.
    EncoderTrainer(encoder(), replace(SETTINGS, max_length=62), LABELS)
    with pytest.raises(ModelError, match="at most 62"):
        EncoderTrainer(encoder(), replace(SETTINGS, max_length=63), LABELS)
    EncoderTrainer(encoder("Bert"), replace(SETTINGS, max_length=64), LABELS)


def test_a_text_of_the_longest_length_goes_through() -> None:
    trainer = EncoderTrainer(encoder(), replace(SETTINGS, max_length=62), LABELS)
    asked = (Example("ship " * 80, " drama"),)
    assert trainer.predict([PredictJob(asked)])[0][0].generated in LABELS


@pytest.mark.parametrize("token", ["cls_token", "sep_token", "mask_token", "pad_token"])
def test_an_encoders_tokenizer_without_a_special_token_is_refused(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = encoder()
    monkeypatch.setitem(base.tokenizer._special_tokens_map, token, None)
    with pytest.raises(ModelError, match=rf"has no {token}(.|\n)*tokenizer_config"):
        as_base_model("tiny", base.model, base.tokenizer)
