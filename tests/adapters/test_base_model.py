from __future__ import annotations

import json
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapters.making import llama
from milp_search.adapters.base_model import (
    as_base_model,
    base_digest,
    load_base_model,
    model_fingerprint,
    read_shape,
    resolve_device,
    text_fingerprint,
)
from milp_search.core.errors import ModelError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Returns a whole model folder."""
    base, place = llama(), tmp_path / "model"
    base.model.save_pretrained(place)
    base.tokenizer.save_pretrained(place)
    return place


def load(folder: Path) -> Any:
    return load_base_model(str(folder), device="cpu")


def test_the_digest_of_a_model_is_that_of_its_files_wherever_they_lie(folder: Path) -> None:
    shutil.copytree(folder, folder.with_name("copy"))
    (folder.with_name("copy") / "README.md").write_text("other words")
    digest = base_digest(str(folder))
    assert digest is not None
    assert base_digest(str(folder.with_name("copy"))) == digest


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_the_digest_sees_every_byte_of_a_file(folder: Path, name: str) -> None:
    before = base_digest(str(folder))
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    assert base_digest(str(folder)) != before


def test_the_digest_sees_every_shard(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    llama().model.save_pretrained(folder, max_shard_size="30KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    before = base_digest(str(folder))
    shards[-1].write_bytes(shards[-1].read_bytes() + b" ")
    assert base_digest(str(folder)) != before
    shards[-1].unlink()
    assert base_digest(str(folder)) is None


def test_a_torn_index_is_told_of_where_a_digest_is_asked_for(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text("[")
    with pytest.raises(ModelError, match="cannot read base model"):
        base_digest(str(folder))


def test_the_embedded_model_loads_frozen_in_float32() -> None:
    base = load_base_model(device="cpu")
    assert base.name == "embedded"
    assert {(p.dtype, p.requires_grad) for p in base.model.parameters()} == {(torch.float32, False)}
    assert not base.model.training
    assert base.shape == read_shape("embedded")


def test_a_folder_gives_the_model_that_was_saved(folder: Path) -> None:
    base = load(folder)
    ids = torch.arange(8).reshape(1, 8)
    assert torch.equal(base.model(ids).logits, llama().model(ids).logits)


# --- what cannot be read --------------------------------------------------------------------


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot read base model(.|\n)*safetensors weights"):
        load(tmp_path / "none")


def test_a_folder_without_configuration_is_refused(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match="cannot read base model"):
        load(folder)
    with pytest.raises(ModelError, match="cannot read base model"):
        read_shape(str(folder))


def test_a_folder_without_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot read base model"):
        load(folder)


def test_a_folder_that_lacks_one_weight_is_refused_and_not_filled_with_noise(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"no weights for model\.layers\.1\.mlp\.up_proj\.weight"):
        load(folder)


def test_weights_of_another_size_are_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 40}))
    with pytest.raises(ModelError, match="cannot read base model"):
        load(folder)


def test_pickled_weights_are_refused_unread(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="in pickle form"):
        load(folder)


def test_damaged_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ModelError, match="cannot read base model"):
        load(folder)


# --- devices --------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["tpu", "meta", "", "cuda:x", "mps"])
def test_an_unknown_device_is_refused(device: str) -> None:
    with pytest.raises(ModelError, match=r"unknown device(.|\n)*Use auto, cpu, cuda"):
        resolve_device(device)


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_cuda_is_refused_where_there_is_none(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ModelError, match="this machine has 0 CUDA devices"):
        resolve_device(device)


def test_auto_is_the_cpu_where_there_is_no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")


# --- fingerprints ---------------------------------------------------------------------------


def test_equal_models_have_equal_fingerprints_wherever_they_lie(folder: Path) -> None:
    moved = folder.with_name("moved")
    shutil.copytree(folder, moved)
    assert load(folder).fingerprint == load(moved).fingerprint


def test_one_changed_weight_changes_the_fingerprint() -> None:
    model = deepcopy(llama().model)
    before = model_fingerprint(model)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 4] += 1e-4
    assert model_fingerprint(model) != before


def test_another_configuration_of_equal_weights_has_another_fingerprint() -> None:
    model = deepcopy(llama().model)
    before = model_fingerprint(model)
    model.config.rms_norm_eps = 1e-3
    assert model_fingerprint(model) != before


# --- tokenizers -----------------------------------------------------------------------------


def test_a_tokenizer_without_padding_token_pads_with_its_end_token() -> None:
    base = llama()
    tokenizer = deepcopy(base.tokenizer)
    tokenizer.pad_token = None
    assert as_base_model("x", base.model, tokenizer).tokenizer.pad_token == "</s>"


def test_a_padding_token_of_its_own_is_kept() -> None:
    assert llama().tokenizer.pad_token == "<pad>"


def test_a_tokenizer_without_end_token_is_refused() -> None:
    base = llama()
    tokenizer = deepcopy(base.tokenizer)
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match=r"no end token(.|\n)*eos_token"):
        as_base_model("x", base.model, tokenizer)


def test_a_text_fingerprint_covers_the_tokenizer() -> None:
    one, other = llama(), llama(start=True)
    assert one.fingerprint == other.fingerprint
    assert text_fingerprint(one) == text_fingerprint(llama())
    assert text_fingerprint(one) != text_fingerprint(other)
