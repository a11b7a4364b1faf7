"""The command line: each command, bad input, killing and resuming."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dispatch.small_study import small_study
from milp_search import cli
from milp_search.core.errors import SpecError
from milp_search.core.trial import TrialStatus
from milp_search.study.study import Study

COMMAND = [sys.executable, "-m", "milp_search"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160"}


def milp_search(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, env=ENVIRONMENT, timeout=300, check=False,
    )  # fmt: skip


def test_help_takes_less_than_half_a_second_of_cpu_beyond_python() -> None:
    def cpu_s(*command: str) -> float:
        before = os.times()
        subprocess.run([sys.executable, *command], capture_output=True, env=ENVIRONMENT, check=True)
        after = os.times()
        return (after.children_user + after.children_system) - (
            before.children_user + before.children_system
        )

    least = min(cpu_s("-m", "milp_search", "--help") for _ in range(3))
    assert least - min(cpu_s("-c", "pass") for _ in range(3)) < 0.5


def test_the_root_and_the_command_line_import_nothing_heavy() -> None:
    code = (
        "import sys, milp_search, milp_search.cli; "
        "heavy = {'torch', 'ax', 'botorch', 'transformers', 'peft', 'ray', 'jax', 'pydantic'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study's folder."""
    place = tmp_path_factory.mktemp("finished")
    file = small_study(place, metrics="[rouge_l]")
    done = milp_search("run", file, "--out", place / "out", "--local")
    assert done.returncode == 0, done.stderr
    assert "3/3 trials" in done.stdout
    assert f"Report: {place / 'out' / 'report.html'}" in done.stdout
    return place / "out"


@pytest.mark.slow
class TestAFinishedStudy:
    def test_its_folder_holds_the_contract(self, folder: Path) -> None:
        names = {path.name for path in folder.iterdir()}
        assert names >= {"study.yaml", "study.sqlite3", "trials.csv", "front.json", "report.html",
                         "adapters"}  # fmt: skip
        assert folder.stat().st_mode & 0o777 == 0o700

    def test_front_json_follows_from_trials_csv(self, folder: Path) -> None:
        front = json.loads((folder / "front.json").read_text())
        with open(folder / "trials.csv", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["status"] == "completed"]
        points = {
            int(row["trial"]): (float(row["loss"]), float(row["trainable_params"])) for row in rows
        }
        expected = {
            index
            for index, (a, b) in points.items()
            if not any(c <= a and d <= b and (c, d) != (a, b) for c, d in points.values())
        }
        assert {trial["trial"] for trial in front["trials"]} == expected
        area, floor = 0.0, 100000.0
        for a, b in sorted(points[index] for index in expected):
            area += max(10.0 - a, 0.0) * max(floor - b, 0.0)
            floor = min(floor, b)
        assert front["hypervolume"] == pytest.approx(area, rel=1e-9)

    def test_every_front_trial_was_tested_with_the_test_seeds(self, folder: Path) -> None:
        front = json.loads((folder / "front.json").read_text())
        assert all(trial["test"]["loss"]["mean"] > 0 for trial in front["trials"])

    def test_adapters_are_those_of_the_front(self, folder: Path) -> None:
        front = json.loads((folder / "front.json").read_text())
        kept = {int(path.name.split("-")[1]) for path in (folder / "adapters").iterdir()}
        assert kept == {trial["trial"] for trial in front["trials"]}

    def test_status_front_report_and_export_read_it(self, folder: Path, tmp_path: Path) -> None:
        assert "3/3 trials" in milp_search("status", folder).stdout
        assert "Pareto front of" in milp_search("front", folder).stdout
        (folder / "report.html").unlink()
        assert milp_search("report", folder).returncode == 0
        assert (folder / "report.html").stat().st_size > 100_000
        done = milp_search("export", folder, "--to", tmp_path / "copy")
        assert done.returncode == 0
        assert list((tmp_path / "copy" / "adapters").glob("trial-*/manifest.json"))

    def test_resuming_it_runs_nothing_again(self, folder: Path) -> None:
        results = sorted(
            (path.name, path.stat().st_mtime_ns) for path in (folder / "results").iterdir()
        )
        assert milp_search("resume", folder).returncode == 0
        assert results == sorted(
            (path.name, path.stat().st_mtime_ns) for path in (folder / "results").iterdir()
        )

    def test_no_users_text_stands_in_store_report_or_tables(self, folder: Path) -> None:
        from milp_search.data.load import load_task
        from milp_search.study.spec_file import load_study_spec

        task = load_task(load_study_spec(folder / "study.yaml").data)
        texts = [item.response for user in task.targets for item in user.history]
        content = b"".join(
            path.read_bytes() for path in folder.iterdir() if path.is_file()
        ) + b"".join(path.read_bytes() for path in (folder / "results").iterdir())
        assert not [text for text in texts if text.encode() in content]

    def test_running_into_the_same_folder_is_refused(self, folder: Path) -> None:
        done = milp_search("run", folder.parent / "study.yaml", "--out", folder, "--local")
        assert done.returncode == 2
        assert "milp-search resume" in done.stderr


@pytest.mark.slow
def test_a_dry_run_trains_and_writes_nothing(tmp_path: Path) -> None:
    done = milp_search("run", small_study(tmp_path), "--out", tmp_path / "out", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "trials: 3 (2 Sobol, 1 random)" in done.stdout
    assert re.search(r"expected time: about \d+:\d\d per trial", done.stdout)
    assert re.search(r"expected disk: about \d+\.\d MiB", done.stdout)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("mode", [("--local",), ("--parallel", "2")], ids=["local", "ray"])
def test_a_study_killed_in_its_middle_goes_on_without_loss(
    tmp_path: Path, mode: tuple[str, ...]
) -> None:
    out = tmp_path / "out"
    file = small_study(tmp_path, trials=6)
    driver = subprocess.Popen(
        [*COMMAND, "run", str(file), "--out", str(out), *mode],
        env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    _wait_for(lambda: len(list((out / "results").glob("search-*.json"))) >= 2)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    before = _completed(out)
    assert before
    done = milp_search("resume", out)
    assert done.returncode == 0, done.stderr
    assert "6/6 trials" in done.stdout
    after = _completed(out)
    assert sorted(after) == list(range(6))
    assert {index: after[index] for index in before} == before


def _completed(folder: Path) -> dict[int, tuple[float, float | None]]:
    """Returns loss and duration of each trial that is completed, by index."""
    with Study.open(folder, read_only=True) as study:
        return {
            trial.index: (trial.measurements["loss"].mean, trial.duration_s)
            for trial in study.trials
            if trial.status is TrialStatus.COMPLETED
        }


@pytest.mark.slow
def test_an_interrupted_study_says_how_to_go_on_and_exits_130(tmp_path: Path) -> None:
    out = tmp_path / "out"
    driver = subprocess.Popen(
        [*COMMAND, "run", str(small_study(tmp_path, trials=50)), "--out", str(out), "--local"],
        env=ENVIRONMENT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    _wait_for(lambda: len(list((out / "results").glob("search-*.json"))) >= 1)
    driver.send_signal(signal.SIGINT)
    output, _ = driver.communicate(timeout=120)
    assert driver.returncode == 130
    assert f"milp-search resume {out}" in output


def test_a_study_no_trial_of_which_succeeds_exits_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    from milp_search.dispatch import drive, worker
    from milp_search.study.spec_file import load_study_spec

    def raises(*_: object) -> None:
        raise ValueError

    monkeypatch.setattr(worker, "train", raises)
    file = small_study(tmp_path)
    spec = load_study_spec(file, {"dispatch.local": True})
    code = drive.run_study(drive.prepare(spec), tmp_path / "out", Console(quiet=True))
    assert code == drive.NO_TRIAL_SUCCEEDED
    front = json.loads((tmp_path / "out" / "front.json").read_text())
    assert front["trials"] == []


@pytest.mark.slow
def test_a_study_no_trial_of_which_keeps_the_constraints_says_so_and_exits_3(
    tmp_path: Path,
) -> None:
    file, out = small_study(tmp_path), tmp_path / "out"
    bound = "constraints: [loss <= 0.01, trainable_params <= 1.0e9]\nproposer:"
    _replace("study.yaml", "proposer:", bound)(tmp_path)
    done = milp_search("run", file, "--out", out, "--local")
    assert done.returncode == 3, done.stderr
    assert "loss <= 0.01, broken by 3 of 3 completed trials" in done.stdout
    assert "trainable_params <= 1000000000, broken by 0 of 3" in done.stdout
    assert "no completed trial keeps every constraint: the front is empty" in done.stdout
    assert "keeps every constraint" in (out / "report.html").read_text("utf-8")
    assert json.loads((out / "front.json").read_text())["trials"] == []
    assert {path.name.split("-")[0] for path in (out / "results").iterdir()} == {"search"}
    assert milp_search("resume", out).returncode == 3
    exported = milp_search("export", out, "--to", tmp_path / "to")
    assert exported.returncode == 2
    assert "no completed trial keeps every constraint" in exported.stderr


Edit = Callable[[Path], Any]


def _replace(name: str, old: str, new: str) -> Edit:
    def edit(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return edit


def _data(content: str) -> Edit:
    def edit(folder: Path) -> None:
        (folder / "data.jsonl").write_text(content)
        _replace("study.yaml", "data:\n", "data:\n  path: data.jsonl\n")(folder)
        _replace("study.yaml", "  population: {users: 4, communities: 2, topics: 3, longest: 8, "
                 "shortest: 8}\n", "")(folder)  # fmt: skip

    return edit


_LONE = '{"user_id": "u", "query": "q", "response": "r", "timestamp": null}\n'


def _empty_model(folder: Path) -> None:
    (folder / "model").mkdir()
    _replace("study.yaml", "name: small", "name: small\nbase_model: ./model")(folder)


BAD: dict[str, tuple[Edit, str]] = {
    "an unknown key": (
        _replace("study.yaml", "proposer:", "proposr:"),
        r"study\.yaml:12:1: .*proposr.*\n.*proposer",
    ),
    "a wrong type": (
        _replace("study.yaml", "initial_trials: 2", "initial_trials: two"),
        r"study\.yaml:13:1: .*initial_trials.*two",
    ),
    "a missing file": (
        _replace("study.yaml", "space: space.yaml", "space: spce.yaml"),
        r"study\.yaml:2:1: .*spce\.yaml",
    ),
    "a duplicate key": (
        _replace("space.yaml", "layers: auto", "layers: auto\nlayers: 8"),
        r"space\.yaml:3:1: .*layers",
    ),
    "a mask longer than the model": (
        _replace("space.yaml", "[0, 0, 0, 0, 0, 0, 1, 1]", "[0, 0, 0, 0, 0, 0, 0, 0, 1, 1]"),
        r"space\.yaml:5:3: .*(8|eight)",
    ),
    "a negative rank": (
        _replace("space.yaml", "lora_rank: [1, 2, 4]", "lora_rank: [-1, 2, 4]"),
        r"space\.yaml:4:\d+: .*-1",
    ),
    "empty data": (_data(""), r"data\.jsonl(:1)?.*: "),
    "a user without history": (_data(_LONE), r"data\.jsonl:1.*: .*(history|interactions)"),
    "an unknown metric": (
        _replace("study.yaml", "metric: loss", "metric: lss"),
        r"study\.yaml:9:\d+: .*lss.*\n.*loss",
    ),
    "a constraint on no metric of the study": (
        _replace("study.yaml", "metrics: []", "constraints: [trainable_parms <= 9]"),
        r"study\.yaml:11:\d+: .*trainable_parms.*\n.*trainable_params",
    ),
    "constraints where the acquisition knows none": (
        _replace(
            "study.yaml",
            "proposer: random",
            "proposer: saas_nehvi\npreset: paper\nconstraints: [loss <= 2]",
        ),
        r"study\.yaml:14:1: .*preset 'paper'.*\n.*default",
    ),
    "an unreadable model folder": (
        _empty_model,
        r"study\.yaml:2:1: .*model",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", BAD)
def test_bad_input_exits_2_with_one_message_that_names_the_place(tmp_path: Path, kind: str) -> None:
    edit, message = BAD[kind]
    file = small_study(tmp_path)
    edit(tmp_path)
    done = milp_search("run", file, "--out", tmp_path / "out", "--local")
    assert done.returncode == 2, done.stdout + done.stderr
    assert re.search(message, done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("milp-search: ") == 1
    assert not (tmp_path / "out" / "study.sqlite3").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
def test_output_that_nobody_takes_is_no_failure() -> None:
    file = Path(__file__).parents[2] / "experiments" / "quickstart.yaml"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, "validate", str(file)],
            stdout=full, stderr=subprocess.PIPE, env=ENVIRONMENT, timeout=60, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")


def given(**options: Any) -> dict[str, Any]:
    names = ("trials", "parallel", "base_model", "data", "device", "ray_address")
    none = {**dict.fromkeys(names), "trust_remote_code": False, "local": False}
    return cli._overrides(**{**none, **options})


def test_the_address_of_a_cluster_takes_the_place_of_a_local_run() -> None:
    assert given() == {}
    assert given(local=True) == {"dispatch.local": True}
    assert given(ray_address="auto") == {"dispatch.local": False, "dispatch.ray_address": "auto"}
    with pytest.raises(SpecError, match="--local or --ray-address, got both"):
        given(local=True, ray_address="auto")


def test_the_lists_name_what_a_study_file_can_name() -> None:
    assert "milp_logo" in milp_search("list", "methods").stdout
    assert "quickstart" in milp_search("list", "spaces").stdout
    metrics = milp_search("list", "metrics").stdout
    assert "persona_f1" in metrics
    assert "METRIC@PART" in metrics
    assert "@cold_start     the quarter of users with the shortest histories" in metrics
    assert "malp" in milp_search("list", "datasets").stdout


def test_every_shipped_study_and_space_is_valid() -> None:
    root = Path(__file__).parents[2]
    files = [*root.glob("experiments/*.yaml"), *root.glob("search_spaces/*.yaml")]
    assert len(files) >= 19
    from milp_search.dispatch.show import check_file

    for file in files:
        assert check_file(file).startswith(str(file))


def _wait_for(happened: Callable[[], bool], limit_s: float = 120.0) -> None:
    end = time.monotonic() + limit_s
    while not happened():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
