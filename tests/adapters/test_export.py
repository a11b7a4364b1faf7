from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel

from adapters.making import EXAMPLES, gpt2, llama, mean_losses
from milp_search.adapters.export import MANIFEST, load_stack, read_manifest, save_stacks
from milp_search.adapters.jobs import Adapter, PredictJob, TrainJob
from milp_search.adapters.lora import fresh_adapter
from milp_search.adapters.peft_trainer import PeftTrainer
from milp_search.core.errors import ModelError
from milp_search.core.plan import AdapterPlan
from milp_search.core.settings import TrainingSettings

pytestmark = pytest.mark.filterwarnings(
    # PEFT sees that GPT-2's Conv1D is transposed and sets its own flag right, with a warning.
    "ignore:fan_in_fan_out is set to False:UserWarning",
    # PEFT 0.21 asks transformers by a name that transformers 5.23 is about to drop.
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning",
)

SETTINGS = TrainingSettings(learning_rate=1e-2, batch_size=2, max_length=100)
PLAN, OTHER = AdapterPlan((2, 0, 3), 2.0), AdapterPlan((0, 4, 1), 0.5, "down")
SHAPE = llama().shape
FACTS = {"base_model": "tiny", "trial": 3}


def fresh(user: str, plan: AdapterPlan = PLAN) -> Adapter:
    return fresh_adapter(f"local:{user}", plan, SHAPE, 0)


def save(folder: Path, stacks: Mapping[str, tuple[Adapter, ...]]) -> dict[str, Any]:
    save_stacks(folder, stacks, SHAPE, FACTS)
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    return manifest


def loaded_as_the_manifest_says(base: Any, folder: Path, stack: list[str]) -> Any:
    model = PeftModel.from_pretrained(base, folder / stack[0], adapter_name=stack[0])
    for name in stack[1:]:
        model.load_adapter(folder / name, adapter_name=name)
    model.base_model.set_adapter(stack, inference_mode=True)
    return model


@pytest.mark.parametrize("make", [llama, gpt2])
def test_a_stack_that_peft_loads_has_the_losses_of_the_trainer(make: Any, tmp_path: Path) -> None:
    base = make()
    trainer = PeftTrainer(base, SETTINGS)
    low = trainer.train([TrainJob("global:x", EXAMPLES, OTHER, 0, epochs=3)])[0]
    top = trainer.train([TrainJob("local:u", EXAMPLES[:3], PLAN, 0, epochs=3, below=(low,))])[0]
    answers = trainer.predict([PredictJob(EXAMPLES, (low, top), generate=False)])[0]
    save_stacks(tmp_path, {"u": (low, top)}, base.shape, FACTS)

    stack = read_manifest(tmp_path)["users"]["u"]
    model = loaded_as_the_manifest_says(make().model, tmp_path, stack).eval()
    losses = mean_losses(model, base.tokenizer, EXAMPLES)
    assert losses == pytest.approx([answer.loss for answer in answers], abs=1e-4)
    assert losses != pytest.approx(mean_losses(make().model, base.tokenizer, EXAMPLES), abs=0.1)


def test_a_stack_comes_back_as_it_was(tmp_path: Path) -> None:
    stack = (fresh_adapter("global:x", PLAN, SHAPE, 0), fresh("u"))
    save(tmp_path, {"u": stack, "v": stack[:1]})
    for user, size in (("u", 2), ("v", 1)):
        again = load_stack(tmp_path, user, PLAN)
        assert len(again) == size
        for one, other in zip(again, stack, strict=False):
            assert one.plan == other.plan
            assert one.tensors.keys() == other.tensors.keys()
            for path, pair in other.tensors.items():
                assert all(map(torch.equal, one.tensors[path], pair))


def test_an_adapter_that_many_users_share_is_written_once(tmp_path: Path) -> None:
    shared = fresh_adapter("global:x", PLAN, SHAPE, 0)
    manifest = save(tmp_path, {user: (shared, fresh(user)) for user in "abc"})
    assert len([*tmp_path.iterdir()]) == 1 + 1 + 3
    assert len({stack[0] for stack in manifest["users"].values()}) == 1


def test_only_safetensors_and_json_are_written(tmp_path: Path) -> None:
    save(tmp_path, {"a": (fresh("a"),)})
    files = {file.name for file in tmp_path.rglob("*") if file.is_file()}
    assert files == {MANIFEST, "adapter_config.json", "adapter_model.safetensors"}


def test_an_adapter_without_rank_leaves_the_base_alone_and_no_folder(tmp_path: Path) -> None:
    manifest = save(tmp_path, {"a": (fresh("a", AdapterPlan((0, 0, 0))),), "b": ()})
    assert manifest["users"] == {"a": [], "b": []}
    assert [file.name for file in tmp_path.iterdir()] == [MANIFEST]
    assert load_stack(tmp_path, "a", PLAN) == ()


NASTY = ["../x", "/etc/x", "a\0b", "x" * 300, "名前 🙂", "", ".", "CON", "a/b", "\ud800", "l:o"]


@pytest.mark.parametrize("user", NASTY, ids=map(ascii, NASTY))
def test_a_user_id_is_never_a_file_name_and_comes_back_from_the_manifest(
    user: str, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    manifest = save(folder, {user: (fresh(user),)})
    assert manifest["users"].keys() == {user}
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
    (adapter,) = {file.name for file in folder.iterdir()} - {MANIFEST}
    assert adapter.removeprefix("local-").isalnum()
    assert len(load_stack(folder, user, PLAN)) == 1


@given(users=st.sets(st.text(max_size=8), min_size=2, max_size=5))
def test_no_two_users_share_a_folder(users: set[str], tmp_path_factory: Any) -> None:
    manifest = save(tmp_path_factory.mktemp("out"), {user: (fresh(user),) for user in users})
    assert len({*map(tuple, manifest["users"].values())}) == len(users)


def test_facts_stand_beside_the_users(tmp_path: Path) -> None:
    manifest = save(tmp_path, {"a": ()})
    assert (manifest["base_model"], manifest["trial"]) == ("tiny", 3)


def test_an_unknown_user_is_refused(tmp_path: Path) -> None:
    save(tmp_path, {"a": ()})
    with pytest.raises(ModelError, match="no adapters for the user"):
        load_stack(tmp_path, "b", PLAN)


def test_a_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"manifest\.json(.|\n)*milp-search export"):
        load_stack(tmp_path, "b", PLAN)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"users": []}'])
def test_a_damaged_manifest_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(ModelError, match=r"manifest\.json"):
        read_manifest(tmp_path)
