"""Vectors of texts, for profiles: by the base model, by word counts, or by a model of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from milp_search.adapters.jobs import AdapterTrainer
from milp_search.core.errors import ModelError
from milp_search.core.heartbeat import beat

HIDDEN = "hidden"
TFIDF = "tfidf"

Embed = Callable[[Sequence[str]], np.ndarray]
"""Texts to vectors (texts x width)."""

_WIDTH = 64  # ours: topics kept of the word counts
_ROWS = 32  # ours: texts in one forward pass of a sentence model


def text_embedding(trainer: AdapterTrainer) -> Embed:
    """Returns the embedding that the trainer's settings name.

    Raises ModelError if they name a model that cannot be read.
    """
    name = trainer.settings.embedding
    if name == HIDDEN:
        return lambda texts: trainer.embed(texts).numpy()
    if name == TFIDF:
        return tfidf_vectors
    return lambda texts: sentence_vectors(name, texts)


def common_embedding(trainer: AdapterTrainer, texts: Sequence[str]) -> Embed:
    """Returns the embedding that the trainer's settings name, made for these texts.

    It sees other texts as it sees these, so that vectors of several calls compare.

    Raises ModelError if the settings name a model that cannot be read.
    """
    counts = trainer.settings.embedding == TFIDF
    return tfidf_embedding(texts) if counts else text_embedding(trainer)


def tfidf_vectors(texts: Sequence[str]) -> np.ndarray:
    """Returns the texts' TF-IDF weights in their leading directions (texts x at most 64).

    The words and directions are those of these very texts; where they share no word at all the
    vectors are 0.
    """
    return tfidf_embedding(texts)(texts)


def tfidf_embedding(texts: Sequence[str]) -> Embed:
    """Returns what maps any texts to their TF-IDF weights in the directions of these ones.

    A word that none of these holds counts for nothing.
    """
    words = TfidfVectorizer(sublinear_tf=True)
    try:
        weights = words.fit_transform(texts)
    except ValueError:  # no words in any text
        return lambda others: np.zeros((len(others), 1))
    width = min(_WIDTH, min(weights.shape) - 1)
    if width < 1:
        return lambda others: np.asarray(words.transform(others).toarray())
    directions = TruncatedSVD(width, random_state=0).fit(weights)
    return lambda others: np.asarray(directions.transform(words.transform(others)))


@torch.no_grad()
def sentence_vectors(name: str, texts: Sequence[str]) -> np.ndarray:
    """Returns L2-normalised means of a model's last hidden states (texts x width).

    Raises ModelError if the model cannot be read.
    """
    model, tokenizer = _sentence_model(name)
    found = []
    for first in range(0, len(texts), _ROWS):
        beat()
        rows = [text or " " for text in texts[first : first + _ROWS]]
        batch = tokenizer(rows, padding=True, truncation=True, return_tensors="pt")
        hidden = model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        means = (hidden * mask).sum(1) / mask.sum(1)
        found.append(torch.nn.functional.normalize(means, dim=1))
    return torch.cat(found).numpy()


@lru_cache(maxsize=1)
def _sentence_model(name: str) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        model = AutoModel.from_pretrained(name, trust_remote_code=False, use_safetensors=True)
    except Exception as error:  # transformers raises many kinds; each means "not readable"
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"cannot read the sentence-embedding model {name!r}: {reason}",
            remedy="Set training.embedding to hidden, tfidf, a model folder or a hub name.",
        ) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.requires_grad_(False).eval(), tokenizer
