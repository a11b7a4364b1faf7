"""Code that comes with a model runs where `trust_remote_code` says so, and nowhere else."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.making import llama
from milp_search.adapters.base_model import load_base_model, read_config, read_shape, read_tokenizer
from milp_search.adapters.text_embedding import sentence_vectors
from milp_search.core.errors import ModelError
from milp_search.dispatch.drive import prepare, sharing_factory
from milp_search.dispatch.worker import RunnerFactory
from milp_search.study.spec_file import load_study_spec
from milp_search.study.study import Study
from security.command import Command
from security.sources import PACKAGE, called, nodes

CONFIGURATION = """\
with open({ran!r}, "a") as file: file.write("configuration ")
from transformers import LlamaConfig
class OddConfig(LlamaConfig):
    model_type = "odd"
"""
MODELING = """\
with open({ran!r}, "a") as file: file.write("modeling ")
from transformers import LlamaForCausalLM
from .configuration_odd import OddConfig
class OddForCausalLM(LlamaForCausalLM):
    config_class = OddConfig
"""
AUTO_MAP = {
    "AutoConfig": "configuration_odd.OddConfig",
    "AutoModelForCausalLM": "modeling_odd.OddForCausalLM",
}


def plain_model(folder: Path) -> Path:
    """Writes a Llama of two layers."""
    base = llama(layers=2)
    base.model.save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)
    return folder


def change(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A model whose kind only its own code knows; the code notes in `ran` that it ran."""
    import transformers.dynamic_module_utils as modules

    monkeypatch.setattr(modules, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    folder = plain_model(tmp_path / "odd")
    change(folder / "config.json", model_type="odd", auto_map=AUTO_MAP)
    for name, code in (("configuration", CONFIGURATION), ("modeling", MODELING)):
        (folder / f"{name}_odd.py").write_text(code.format(ran=str(tmp_path / "ran")))
    yield folder
    for name in [name for name in sys.modules if name.startswith("transformers_modules")]:
        del sys.modules[name]


STUDY = """\
name: odd
base_model: {model}
space: space.yaml
data: {{targets: 2, population: {{users: 2, communities: 1, topics: 2, longest: 6, shortest: 6}}}}
objectives: [{{metric: loss, direction: minimize, reference: 10}}]
proposer: random
initial_trials: 1
budget: {{trials: 1}}
training: {{tuning_epochs: 1, max_length: 64, max_new_tokens: 2}}
test_seeds: []
"""


def study_file(folder: Path, model: Path) -> Path:
    (folder / "space.yaml").write_text("name: s\nlayers: auto\ndimensions: {lora_rank: [1, 2]}\n")
    (folder / "study.yaml").write_text(STUDY.format(model=model))
    return folder / "study.yaml"


def test_no_model_is_loaded_without_a_word_on_trust() -> None:
    for name, node in nodes(PACKAGE):
        if isinstance(node, ast.Call) and called(node).endswith(
            (".from_pretrained", "from_config")
        ):
            words = {word.arg: ast.unparse(word.value) for word in node.keywords}
            # A placed base is a class and weights that are in memory already.
            if called(node) != "placed.kind.from_pretrained":
                assert words["trust_remote_code"] in ("trust_remote_code", "False"), name


@pytest.mark.parametrize("read", [read_config, read_shape, load_base_model])
def test_it_is_refused_unrun_without_the_flag(odd: Path, read: type, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"code of its own(.|\n)*--trust-remote-code"):
        read(str(odd))
    assert not (tmp_path / "ran").exists()


def test_a_tokenizer_with_code_of_its_own_is_refused_unrun(odd: Path, tmp_path: Path) -> None:
    (odd / "tokenizer.json").unlink()
    (odd / "tokenization_odd.py").write_text(CONFIGURATION.format(ran=str(tmp_path / "ran")))
    words = {"AutoTokenizer": ["tokenization_odd.OddTokenizer", None]}
    change(odd / "tokenizer_config.json", tokenizer_class="OddTokenizer", auto_map=words)
    with pytest.raises(ModelError, match="code of its own"):
        read_tokenizer(str(odd))
    assert not (tmp_path / "ran").exists()


def test_a_known_kind_is_loaded_by_the_library_and_its_code_left_alone(tmp_path: Path) -> None:
    folder = plain_model(tmp_path / "plain")
    (folder / "modeling_odd.py").write_text(MODELING.format(ran=str(tmp_path / "ran")))
    change(folder / "config.json", auto_map={"AutoModelForCausalLM": "modeling_odd.OddForCausalLM"})
    base = load_base_model(str(folder), device="cpu")
    assert type(base.model).__module__.startswith("transformers.models.llama")
    assert not (tmp_path / "ran").exists()


def test_an_embedding_model_is_never_trusted(odd: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot read the sentence-embedding model"):
        sentence_vectors(str(odd), ["text"])
    assert not (tmp_path / "ran").exists()


def test_the_command_refuses_it_in_one_message_at_its_place(
    odd: Path, tmp_path: Path, milp_search: Command
) -> None:
    file = study_file(tmp_path, odd)
    code, _, error = milp_search("run", file, "--out", tmp_path / "out", "--local")
    assert code == 2
    assert error.startswith(f"milp-search: {file}:2:1: base model '{odd}' comes with code")
    assert len(error.splitlines()) == 2
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_with_the_flag_it_runs_and_that_is_on_record(
    odd: Path, tmp_path: Path, milp_search: Command
) -> None:
    file, out = study_file(tmp_path, odd), tmp_path / "out"
    code, _, error = milp_search("run", file, "--out", out, "--local", "--trust-remote-code")
    assert code == 0, error
    assert (tmp_path / "ran").read_text().split()[0] == "configuration"
    assert "modeling" in (tmp_path / "ran").read_text()
    assert load_study_spec(out / "study.yaml").trust_remote_code
    with Study.open(out, read_only=True) as study:
        assert study.settings["trust_remote_code"] is True
    assert "the base model&#39;s own, trusted" in (out / "report.html").read_text("utf-8")
    assert milp_search("resume", out)[0] == 0


def test_workers_read_a_trusted_model_themselves(odd: Path, tmp_path: Path) -> None:
    file = study_file(tmp_path, odd)
    file.write_text(file.read_text() + "trust_remote_code: true\n")
    prepared = prepare(load_study_spec(file), file)
    assert sharing_factory(tmp_path, prepared.spec, prepared.task) == RunnerFactory(tmp_path)


def test_without_the_flag_the_record_says_so(tmp_path: Path) -> None:
    spec = load_study_spec(study_file(tmp_path, plain_model(tmp_path / "plain")))
    assert spec.trust_remote_code is False
