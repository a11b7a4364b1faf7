"""State is safetensors, JSON and SQLite: nothing is unpickled, nor written to be."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from adapters.making import llama
from milp_search.adapters.base_model import load_base_model, require_weights
from milp_search.adapters.export import load_stack
from milp_search.core.errors import DataError, ModelError
from milp_search.core.plan import AdapterPlan
from milp_search.data.hub import hub_records
from security.sources import FOLDERS, called, imported, nodes

MODULES = {"pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "_pickle", "jsonpickle"}
# The one use: Ray's own, to carry a test's classes to workers, is in no state and in no source.
CALLS = {"load", "save", "loads", "read_pickle", "to_pickle", "unsafe_load"}
OWNERS = {"torch", "numpy", "np", "pandas", "pd", "yaml", *MODULES}


def unpickles(node: ast.AST) -> str:
    """Returns what in a node may read or write a pickle; empty where nothing does."""
    for name in imported(node):
        if name.split(".")[0] in MODULES or name in ("torch.load", "torch.save"):
            return name
    if isinstance(node, ast.Attribute) and node.attr in CALLS:
        text = ast.unparse(node)
        return text if text.split(".")[0] in OWNERS else ""
    if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "weights_only"):
        return ast.unparse(node)
    return ""


def test_nothing_in_the_source_unpickles() -> None:
    assert [(name, text) for name, node in nodes(*FOLDERS) if (text := unpickles(node))] == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from dill import loads",
        "import joblib.externals",
        "from torch import load",
        "torch.load(file)",
        "read = np.load",
        "numpy.load(file, allow_pickle=True)",
        "pandas.read_pickle(file)",
        "yaml.unsafe_load(text)",
    ],
)
def test_the_scan_finds(line: str) -> None:
    assert any(unpickles(node) for node in ast.walk(ast.parse(line)))


def test_the_scan_leaves_what_is_no_pickle() -> None:
    tree = ast.parse("json.load(file)\nsafetensors.torch.load(content)\nimport json")
    assert not any(unpickles(node) for node in ast.walk(tree))


def test_weights_are_read_as_safetensors_wherever_a_model_is() -> None:
    calls = [
        (name, node)
        for name, node in nodes(*FOLDERS)
        if isinstance(node, ast.Call) and called(node).endswith(".from_pretrained")
    ]
    # `reader` is given the option by `load_base_model`; a placed base has its weights in memory;
    # tokenizers have none.
    assert {(name, called(node)) for name, node in calls} == {
        ("milp_search/adapters/base_model.py", "reader.from_pretrained"),
        ("milp_search/adapters/placed_base.py", "placed.kind.from_pretrained"),
        ("milp_search/adapters/text_embedding.py", "AutoModel.from_pretrained"),
        ("milp_search/adapters/text_embedding.py", "AutoTokenizer.from_pretrained"),
    }
    (words,) = (node for _, node in calls if called(node) == "AutoModel.from_pretrained")
    assert "use_safetensors=True" in ast.unparse(words)


# --- base models -----------------------------------------------------------------------------


class Trap:
    """Writes a file where it is unpickled."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.file,))


def model_folder(place: Path) -> Path:
    base = llama(layers=1)
    base.model.save_pretrained(place)
    base.tokenizer.save_pretrained(place)
    return place


def test_a_folder_with_pickled_weights_only_is_refused_unread_with_a_remedy(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    torch.save(Trap(tmp_path / "ran"), folder / "pytorch_model.bin")
    for read in (load_base_model, require_weights):
        with pytest.raises(ModelError, match=r"pytorch_model\.bin(.|\n)*pickle(.|\n)*Convert it"):
            read(str(folder))
    assert not (tmp_path / "ran").exists()


def test_an_index_of_safetensors_that_names_a_pickle_is_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    torch.save(Trap(tmp_path / "ran"), folder / "shard.bin")
    index = {"metadata": {}, "weight_map": {"model.norm.weight": "shard.bin"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"'shard\.bin'(.|\n)*pickle"):
        load_base_model(str(folder))
    assert not (tmp_path / "ran").exists()


def test_an_index_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    (folder / "model.safetensors").rename(tmp_path / "model.safetensors")
    index = {"metadata": {}, "weight_map": {"model.norm.weight": "../model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"'\.\./model\.safetensors' that its index names"):
        load_base_model(str(folder))


def test_a_base_model_with_an_adapter_in_its_folder_is_refused_unread(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "target_modules": ["q"]}')
    torch.save(Trap(tmp_path / "ran"), folder / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"holds an adapter(.|\n)*Merge the adapter"):
        load_base_model(str(folder))
    assert not (tmp_path / "ran").exists()


# --- adapters and data -----------------------------------------------------------------------


def exported(folder: Path, name: str = "local-0") -> Path:
    """Writes a manifest that gives user `u` one adapter, and the adapter's folder."""
    (folder / "local-0").mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"users": {"u": [name]}}))
    return folder / "local-0"


def test_an_adapter_with_pickled_weights_only_is_refused_unread(tmp_path: Path) -> None:
    adapter = exported(tmp_path)
    torch.save(Trap(tmp_path / "ran"), adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"cannot read(.|\n)*adapter_model\.safetensors"):
        load_stack(tmp_path, "u", AdapterPlan((1,)))
    assert not (tmp_path / "ran").exists()


def test_an_adapter_file_that_is_no_safetensors_is_refused(tmp_path: Path) -> None:
    (exported(tmp_path) / "adapter_model.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(ModelError, match="cannot read"):
        load_stack(tmp_path, "u", AdapterPlan((1,)))


def test_adapter_tensors_without_their_pair_are_refused(tmp_path: Path) -> None:
    file = exported(tmp_path) / "adapter_model.safetensors"
    save_file({"base_model.model.x.lora_A.weight": torch.zeros(1)}, file)
    with pytest.raises(ModelError, match="cannot read"):
        load_stack(tmp_path, "u", AdapterPlan((1,)))


@pytest.mark.parametrize("name", ["..", "../local-0", "/etc", "local-0/..", "", ".", 7, None])
def test_a_manifest_leads_nowhere_but_into_its_folder(tmp_path: Path, name: object) -> None:
    exported(tmp_path, name)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="expected the name of a folder beside it"):
        load_stack(tmp_path, "u", AdapterPlan((1,)))


def test_a_data_set_that_is_a_script_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "set.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(DataError, match="cannot load the hub data set"):
        list(hub_records(f"hub:{tmp_path / 'set' / 'set.py'}"))
    assert not (tmp_path / "ran").exists()
