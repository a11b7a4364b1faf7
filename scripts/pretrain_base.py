"""Makes the embedded base model: tokenizer, then a tiny Llama trained on random worlds.

    python scripts/pretrain_base.py --out milp_search/adapters/embedded

Each document is drawn from a world of its own: made-up names and facts, random habits, and zero
to three earlier items of the same user in front of the question, as retrieval will put them there.
So the model cannot learn any world by heart and has to copy from the earlier items. Sequences of
random tokens that repeat themselves, mixed into every batch, make copying appear early; the share
of the loss that copying saves is printed and stored with the model (`training.json`).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from milp_search.adapters.prompt import answer_text, prompt_text
from milp_search.data import lexicon
from milp_search.data.synthetic import PopulationSettings, community_habits, exchange, persona

VOCABULARY = 3072
END, PAD = "</s>", "<pad>"


def document(random: Random, earlier: int) -> tuple[str, str]:
    """Returns a prompt with that many earlier items, and the answer, from a fresh world."""
    settings = PopulationSettings(regimes=(0.5,), drift=random.choice((0.0, 0.3, 0.6)))
    topics = random.sample(sorted(lexicon.TOPICS), random.randint(3, 10))
    habits = community_habits(random, topics, settings)
    who = persona(random, topics, random.randint(2, 5))
    topic = random.choice(topics)

    def item(about: str) -> tuple[str, str]:
        regime = 1 if random.random() < 0.75 else 0
        return exchange(random, about, who, habits[regime], late=bool(regime))

    items = [
        item(topic if random.random() < 0.6 else random.choice(topics)) for _ in range(earlier)
    ]
    query, answer = exchange(random, topic, who, habits[1], late=True)
    return prompt_text(query, items), answer_text(answer)


def train_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """Returns a byte-level BPE tokenizer over generated documents and the whole lexicon."""
    random = Random(f"tokenizer {seed}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(("".join(document(random, 1)) for _ in range(20_000)), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, model_max_length=1024
    )


def new_model(seed: int) -> LlamaForCausalLM:
    """Returns the untrained model: 8 layers, width 128, 2.1 million parameters."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )
    return LlamaForCausalLM(config)


def encode(
    tokenizer: PreTrainedTokenizerFast, documents: list[tuple[str, str]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns token ids (n x length) and the weight of each as a target: 1 answer, 0.3 prompt."""
    rows, weights = [], []
    for prompt, answer in documents:
        head = tokenizer(prompt)["input_ids"]
        tail = [*tokenizer(answer)["input_ids"], tokenizer.eos_token_id]
        rows.append(torch.tensor(head + tail))
        weights.append(torch.tensor([0.3] * len(head) + [1.0] * len(tail)))
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(rows, batch_first=True), pad(weights, batch_first=True)


def repeats(random: Random, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns rows of random tokens said twice, of which the second half counts."""
    length = random.randint(8, 40)
    generator = torch.Generator().manual_seed(random.getrandbits(40))
    half = torch.randint(2, VOCABULARY, (rows, length), generator=generator)
    weights = torch.cat([torch.zeros(rows, length), torch.full((rows, length), 0.3)], dim=1)
    return torch.cat([half, half], dim=1), weights


def weighted_loss(
    model: LlamaForCausalLM, ids: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the summed weighted negative log-likelihood (nats) and the summed weight."""
    logits = model(ids).logits[:, :-1]
    losses = torch.nn.functional.cross_entropy(
        logits.reshape(-1, VOCABULARY), ids[:, 1:].reshape(-1), reduction="none"
    )
    return (losses * weights[:, 1:].reshape(-1)).sum(), weights[:, 1:].sum()


@torch.no_grad()
def copying(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> dict[str, float]:
    """Returns the answers' loss (nats per token) on unseen worlds by number of earlier items."""
    losses = {}
    for earlier in range(4):
        random = Random(f"held out {earlier}")
        ids, weights = encode(tokenizer, [document(random, earlier) for _ in range(64)])
        total, count = weighted_loss(model, ids, (weights == 1.0).float())
        losses[f"loss_with_{earlier}_earlier"] = round(float(total / count), 4)
    return losses


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Returns the rate after a warm-up of 100 steps and along a cosine to a tenth of the peak."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
    return peak * min(1.0, (step + 1) / 100) * (0.1 + 0.9 * cosine)


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Writes the model in half precision, with its tokenizer, as `from_pretrained` reads them."""
    tokenizer.save_pretrained(out)
    half = LlamaForCausalLM(model.config)
    half.load_state_dict(model.state_dict())
    half.half().save_pretrained(out, safe_serialization=True)


def main() -> None:
    """Trains and writes the base; prints a line every 100 steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4350)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peak", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    random, tokenizer = Random(f"pre-training {arguments.seed}"), train_tokenizer(arguments.seed)
    model = new_model(arguments.seed)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.01)
    arguments.out.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    for step in range(arguments.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, arguments.steps, arguments.peak)
        earlier = random.choice((0, 1, 1, 2, 2, 3))
        batches = (
            encode(tokenizer, [document(random, earlier) for _ in range(12)]),
            repeats(random, 16),
        )
        parts = [weighted_loss(model, *batch) for batch in batches]
        loss = sum(part[0] for part in parts) / sum(part[1] for part in parts)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 99:
            report = copying(model, tokenizer)
            print(step + 1, round(time.monotonic() - start), report, flush=True)
        if step % 500 == 499 or step + 1 == arguments.steps:
            save(model, tokenizer, arguments.out)
            record = {"steps": step + 1, "seed": arguments.seed, **copying(model, tokenizer)}
            (arguments.out / "training.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
