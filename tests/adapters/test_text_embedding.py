from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import BertConfig, BertModel

from adapters.making import llama
from milp_search.adapters.peft_trainer import PeftTrainer
from milp_search.adapters.text_embedding import (
    common_embedding,
    sentence_vectors,
    text_embedding,
    tfidf_embedding,
    tfidf_vectors,
)
from milp_search.core.errors import ModelError
from milp_search.core.heartbeat import heard_by
from milp_search.core.settings import TrainingSettings

TEXTS = ["red apple pie", "apple pie with cream", "engine oil", "motor engine", ""]
SETTINGS = TrainingSettings(max_length=64)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_texts_with_common_words_lie_closer() -> None:
    vectors = tfidf_vectors(TEXTS)
    assert cosine(vectors[0], vectors[1]) > cosine(vectors[0], vectors[2]) + 0.3
    assert cosine(vectors[2], vectors[3]) > cosine(vectors[1], vectors[3]) + 0.3
    assert not vectors[4].any()


@pytest.mark.parametrize("texts", [[""], ["", ""], ["one"], ["one", "one"], ["a b", "c d"]])
def test_few_or_empty_texts_have_vectors_too(texts: list[str]) -> None:
    vectors = tfidf_vectors(texts)
    assert len(vectors) == len(texts)
    assert np.isfinite(vectors).all()


def test_a_fitted_embedding_sees_a_text_alike_whatever_stands_beside_it() -> None:
    embed = tfidf_embedding(TEXTS)
    np.testing.assert_array_equal(embed(TEXTS), tfidf_vectors(TEXTS))
    np.testing.assert_allclose(embed([TEXTS[2]])[0], embed(TEXTS)[2], atol=1e-12)
    assert cosine(embed(["an apple"])[0], embed(TEXTS)[1]) > 0.5
    assert not embed(["words unseen", ""]).any()


@pytest.mark.parametrize("texts", [[""], ["one"], ["one", "one"]])
def test_an_embedding_fitted_to_little_maps_other_texts_too(texts: list[str]) -> None:
    vectors = tfidf_embedding(texts)(["one", "two", ""])
    assert vectors.shape[0] == 3
    assert np.isfinite(vectors).all()


def test_a_common_embedding_is_fitted_only_where_words_are_counted() -> None:
    base = llama()
    hidden = PeftTrainer(base, SETTINGS)
    of_texts = common_embedding(hidden, TEXTS)(["engine"])
    assert np.array_equal(of_texts, text_embedding(hidden)(["engine"]))
    counting = PeftTrainer(base, replace(SETTINGS, embedding="tfidf"))
    of_words = common_embedding(counting, TEXTS)(["engine"])
    assert np.array_equal(of_words, tfidf_embedding(TEXTS)(["engine"]))


def test_the_settings_name_the_embedding() -> None:
    base = llama()
    hidden = text_embedding(PeftTrainer(base, SETTINGS))(TEXTS)
    assert hidden.shape == (5, base.model.config.hidden_size)
    counted = text_embedding(PeftTrainer(base, replace(SETTINGS, embedding="tfidf")))(TEXTS)
    assert np.array_equal(counted, tfidf_vectors(TEXTS))


def test_a_model_that_cannot_be_read_is_refused() -> None:
    trainer = PeftTrainer(llama(), replace(SETTINGS, embedding="./nowhere"))
    with pytest.raises(ModelError, match=r"sentence-embedding model './nowhere'(.|\n)*tfidf"):
        text_embedding(trainer)(TEXTS)


def sentence_model(folder: Path) -> str:
    """Writes a tiny random sentence model and returns its name."""
    tokenizer: Any = llama().tokenizer
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16,
    )  # fmt: skip
    BertModel(config).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_sentence_model_gives_the_normalised_mean_of_its_last_states(tmp_path: Path) -> None:
    name = sentence_model(tmp_path)
    vectors = sentence_vectors(name, TEXTS)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    for text, vector in zip(TEXTS[:4], vectors, strict=False):
        # Alone, without padding, a text has the same vector.
        np.testing.assert_allclose(sentence_vectors(name, [text])[0], vector, atol=1e-5)


def test_a_sentence_model_gives_a_sign_of_life_with_each_pass_of_32_texts(tmp_path: Path) -> None:
    beats: list[None] = []
    with heard_by(lambda: beats.append(None)):
        sentence_vectors(sentence_model(tmp_path), ["a text"] * 65)
    assert len(beats) == 3
