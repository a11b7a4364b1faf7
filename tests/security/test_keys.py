"""Keys come from the environment or a file, and stand nowhere else."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dispatch.small_study import small_study
from milp_search.core.errors import SpecError
from milp_search.study.credentials import holds_credentials
from milp_search.study.spec_file import load_study_spec
from security.command import Command

HUB, RAY = "hf_kanarienvogelHUB0123456789", "kanarienvogelRAY" * 4
SECRET = "https://anna:kanarienvogel@hub.example/model"


@pytest.mark.parametrize(
    "text", [SECRET, "hub:https://a:b@h/x", "ray://token@head:1", "http://u@h", "s3://k:s@bucket/x"]
)
def test_an_address_with_a_password_is_known(text: str) -> None:
    assert holds_credentials(text)


@pytest.mark.parametrize(
    "text",
    [
        "https://h/a@b",
        "hf://datasets/o/n@main/f.jsonl",
        "owner/name",
        "a@b",
        "loss@cvar",
        "C:\\x@y",
    ],
)
def test_another_at_sign_is_none(text: str) -> None:
    assert not holds_credentials(text)


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("name: small", f"name: small\nbase_model: {SECRET}", "2:1"),
        ("data:", f"data:\n  path: {SECRET}", "4:3"),
        ("training:", f"training:\n  embedding: {SECRET}", "17:3"),
        ("device: cpu", f"device: cpu, ray_address: '{SECRET}'", "22:38"),
        ("device: cpu", "device: cpu, ray_address: 'kanarienvogel@head:6379'", "22:38"),
        ("name: small", f"name: small\n'{SECRET}': 1", "2:1"),
    ],
)
def test_it_is_refused_at_its_place_and_not_repeated(
    tmp_path: Path, milp_search: Command, old: str, new: str, place: str
) -> None:
    file = small_study(tmp_path)
    file.write_text(file.read_text().replace(old, new, 1))
    code, out, error = milp_search("run", file, "--out", tmp_path / "out", "--local")
    assert code == 2
    assert error.startswith(f"milp-search: {file}:{place}: expected an address without a user's")
    assert "kanarienvogel" not in out + error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [("base_model", SECRET), ("data.path", SECRET), ("dispatch.ray_address", "anna@head:6379")],
)
def test_so_is_one_on_the_command_line(tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(SpecError, match="command line: expected an address without") as refused:
        load_study_spec(small_study(tmp_path), {key: value})
    assert value not in str(refused.value)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["embedded", "no-such-owner/no-such-model"])
def test_keys_of_the_environment_are_in_nothing_that_a_run_leaves(
    tmp_path: Path,
    milp_search: Command,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    model: str,
) -> None:
    monkeypatch.setenv("HF_TOKEN", HUB)
    monkeypatch.setenv("RAY_AUTH_TOKEN", RAY)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    file, out = small_study(tmp_path, trials=1), tmp_path / "out"
    file.write_text(file.read_text().replace("initial_trials: 2", "initial_trials: 1"))
    with caplog.at_level(logging.DEBUG):
        code, shown, error = milp_search(
            "run", file, "--out", out, "--local", "--base-model", model
        )
    assert code == (0 if model == "embedded" else 2)
    told = (shown + error + caplog.text).encode()
    written = [path.read_bytes() for path in out.rglob("*") if path.is_file()]
    assert bool(written) == (model == "embedded")
    for content in (told, *written):
        assert HUB.encode() not in content
        assert RAY.encode() not in content


RAY_RUN = """\
import os, sys
from pathlib import Path
import ray
from ray._private.state import state
from ray._private.worker import global_worker
from milp_search.dispatch import ray_session
from milp_search.dispatch.ray_tune import RaySettings

keys = [os.environ["HF_TOKEN"], os.environ["RAY_AUTH_TOKEN"], ray_session._TOKEN]
with ray_session.ray_session(RaySettings()):
    work = ray.remote(num_cpus=0.01)(lambda: os.environ["HF_TOKEN"] == keys[0])
    assert ray.get(work.remote())  # workers have the key: they may have to read a model
    session = Path(global_worker.node.get_session_dir_path())
    told = {"jobs": repr(state.job_table()), "nodes": repr(ray.nodes()),
            "runtime": repr(ray.get_runtime_context().get_runtime_env_string())}
    for path in session.rglob("*"):
        if path.is_file():
            told[str(path)] = path.read_bytes().decode("latin-1")
    ours = 0
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = line.read_bytes().decode("latin-1")
        except OSError:
            continue
        ours += str(session.parent) in text
        told[str(line)] = text
    assert ours and len(told) > 20
    print([name for name, text in told.items() if any(key in text for key in keys)])
"""


@pytest.mark.slow
def test_keys_are_in_no_file_job_or_command_line_of_a_ray_session(tmp_path: Path) -> None:
    environment = {**os.environ, "HF_TOKEN": HUB, "RAY_AUTH_TOKEN": RAY, "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", RAY_RUN],
        capture_output=True, text=True, env=environment, timeout=300, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
    assert not [key for key in (HUB, RAY) if key in done.stderr]
