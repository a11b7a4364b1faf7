"""A real, small study forgets a user, and works on without."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path

import pytest
from rich.console import Console

from data.writing import line, write_lines
from dispatch.small_study import small_study
from milp_search.core.errors import SpecError, StudyError
from milp_search.data.load import load_task
from milp_search.dispatch.drive import prepare, resume_study, run_study
from milp_search.dispatch.forget import study_folder
from milp_search.dispatch.forget.command import forget_user, read_user
from milp_search.dispatch.show import copy_adapters, print_front, print_status
from milp_search.study.examples import read_examples
from milp_search.study.lock import LOCK_NAME, DriverLock
from milp_search.study.report import write_report
from milp_search.study.spec_file import load_study_spec, read_kept
from milp_search.study.study import Study

# One id is part of another, one needs every kind of escape; `other` trains the base stage only.
TARGETS = ["u1", "u10", 'né"<b>&\\']
OTHER = "somebody else"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study, as it was run; a test works on its own copy."""
    place = tmp_path_factory.mktemp("forget")
    users = [*TARGETS, OTHER]
    lines = [line(user, n) for at, user in enumerate(users) for n in range(12 - at)]
    write_lines(place / "diary.jsonl", lines)
    file = small_study(place, trials=2, metrics="[rouge_l]")
    text = file.read_text()
    start, end = text.index("  population:"), text.index("  validation:")
    file.write_text(f"{text[:start]}  path: {place / 'diary.jsonl'}\n{text[end:]}")
    given = {"dispatch.local": True, "examples": 4, "training.base_training": "lora"}
    spec = load_study_spec(file, given)
    assert run_study(prepare(spec, file), place / "run", Console(quiet=True)) == 0
    return place / "run"


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished study's folder."""
    return shutil.copytree(finished, tmp_path / "run")


def forget(folder: Path, user: str, *, keep_shared: bool = False) -> tuple[int, str]:
    """Returns the exit code and what was printed."""
    text = StringIO()
    code = forget_user(folder, user, Console(file=text, width=200), keep_shared=keep_shared)
    return code, text.getvalue()


def holding(folder: Path, *forms: bytes) -> list[str]:
    """Returns the files whose name or bytes hold one of the forms."""
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if any(form in os.fsencode(path.name) for form in forms)
        or (path.is_file() and any(form in path.read_bytes() for form in forms))
    ]


def aggregates(folder: Path) -> list[tuple[int, str, float, float | None]]:
    """Returns mean and standard error of all that was measured, trials first, then tests."""
    with Study.open(folder, read_only=True) as study:
        told = [(trial.index, trial.measurements) for trial in study.trials]
        told += [
            (trial.index, test)
            for trial in study.trials
            for test in study.tests(trial.index).values()
        ]
    return [
        (index, name, value.mean, value.sem)
        for index, measured in told
        for name, value in sorted(measured.items())
    ]


@pytest.mark.slow
def test_no_name_and_no_byte_holds_the_id_afterwards_and_aggregates_stay(folder: Path) -> None:
    odd = TARGETS[2]
    escaped = json.dumps(odd)[1:-1].encode()
    forms = odd.encode(), escaped, json.dumps(escaped.decode())[1:-1].encode()
    before = aggregates(folder)
    assert len(before) >= 9
    assert holding(folder, *forms)
    code, printed = forget(folder, odd)
    assert code == 0, printed
    assert "nothing of the user is left" in printed
    assert odd not in printed
    assert holding(folder, *forms) == []
    assert aggregates(folder) == before
    with Study.open(folder, read_only=True) as study:
        assert not [
            value
            for trial in study.trials
            for value in trial.measurements.values()
            if value.per_user
        ]


@pytest.mark.slow
def test_a_second_call_finds_nothing_left(folder: Path) -> None:
    assert forget(folder, "u1")[0] == 0
    before = {path: path.read_bytes() for path in folder.rglob("*.json")}
    code, printed = forget(folder, "u1")
    assert code == 0
    assert "Nothing is left to be removed" in printed
    assert {path: path.read_bytes() for path in folder.rglob("*.json")} == before


STEPS = [
    "_stages_that_learnt", "_forget_in_adapters", "_clear", "_forget_in_results",
    "forget_in_examples", "forget_in_store", "_write_outputs",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_after_a_call_that_died_before_a_step_the_next_one_ends_it(
    step: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    before = aggregates(folder)
    with monkeypatch.context() as patch:
        patch.setattr(study_folder, step, dies)
        with pytest.raises(KeyboardInterrupt):
            forget(folder, "u1")
    torn = (".study.yaml.a1b2c3d4", "results/.x.json.a1b2c3d4", "study.sqlite3.new")
    for name in torn:
        (folder / name).write_text('{"user": "u1"}')
    (folder / "adapters" / "trial-9.partial").mkdir()
    assert forget(folder, "u1")[0] == 0
    assert aggregates(folder) == before
    assert [name for name in (*torn, "adapters/trial-9.partial") if (folder / name).exists()] == []
    assert len(read_kept(folder).data.forgotten) == 1
    with Study.open(folder, read_only=True) as study:
        assert len(study.state.forgotten) == 1


@pytest.mark.slow
def test_adapters_that_stay_are_the_same_byte_for_byte(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.glob("adapters/*/*/*.safetensors")}
    forget(folder, "u1", keep_shared=True)
    after = {path: path.read_bytes() for path in folder.glob("adapters/*/*/*.safetensors")}
    assert 0 < len(after) < len(before)
    assert {path: before[path] for path in after} == after


@pytest.mark.slow
def test_what_was_kept_goes_with_a_second_call_that_keeps_nothing(folder: Path) -> None:
    forget(folder, "u1", keep_shared=True)
    assert list(folder.glob("adapters/*/*/*.safetensors"))
    assert forget(folder, "u1")[0] == 0
    assert list(folder.glob("adapters/*/*/*.safetensors")) == []
    assert "Nothing is left to be removed" in forget(folder, "u1", keep_shared=True)[1]


@pytest.mark.slow
def test_lines_of_the_log_that_name_the_user_go_and_torn_results(folder: Path) -> None:
    (folder / "log.txt").write_text("one\nread /data/u1.json\nread /data/u10.json\n")
    (folder / "results" / "search-00009-0.json").write_text('{"job": {"u": "u1')
    forget(folder, "u1")
    lines = (folder / "log.txt").read_text().splitlines()
    assert (lines[0], lines[2]) == ("one", "read /data/u10.json")
    assert "u1" not in lines[1]
    results = list((folder / "results").glob("*.json"))
    assert results
    assert folder / "results" / "search-00009-0.json" not in results
    for path in results:
        outcome = json.loads(path.read_text())["outcome"]
        assert {len(value["per_user"]) for value in outcome["measurements"].values()} == {0}


@pytest.mark.slow
def test_one_whose_id_is_part_of_anothers_goes_and_the_other_stays(folder: Path) -> None:
    assert forget(folder, "u1", keep_shared=True)[0] == 0
    manifests = [json.loads(file.read_text()) for file in folder.glob("adapters/*/manifest.json")]
    assert manifests
    assert [sorted(one["users"]) for one in manifests] == [['né"<b>&\\', "u10"]] * len(manifests)
    for file in folder.glob("adapters/*/manifest.json"):
        stack = json.loads(file.read_text())["users"]["u10"]
        assert all((file.parent / name / "adapter_model.safetensors").exists() for name in stack)


@pytest.mark.slow
def test_the_study_can_be_looked_at_and_its_tables_agree(folder: Path, tmp_path: Path) -> None:
    with open(folder / "trials.csv", newline="") as file:
        before = list(csv.DictReader(file))
    assert forget(folder, "u10")[0] == 0
    text = StringIO()
    print_status(folder, Console(file=text, width=200))
    print_front(folder, Console(file=text, width=200))
    assert "2/2 trials" in text.getvalue()
    assert "Pareto front of" in text.getvalue()
    with Study.open(folder, read_only=True) as study:
        assert "Users forgotten since" in write_report(study).read_text()
    with open(folder / "trials.csv", newline="") as file:
        assert list(csv.DictReader(file)) == before
    copies = copy_adapters(folder, tmp_path / "copy")
    assert copies
    assert holding(tmp_path / "copy", b'"u10"') == []


@pytest.mark.slow
def test_it_goes_on_without_the_user(folder: Path) -> None:
    assert forget(folder, "u1")[0] == 0
    file = folder / "study.yaml"
    file.write_text(file.read_text().replace("trials: 2\n", "trials: 3\n"))
    assert [one.user for one in load_task(load_study_spec(file).data).targets] == TARGETS[1:]
    assert resume_study(folder, Console(quiet=True)) == 0
    with Study.open(folder, read_only=True) as study:
        assert len(study.trial(2).measurements["loss"].per_user) == 2
    assert [one for one in read_examples(folder) if one.trial == 2 and "u1 " in one.query] == []
    assert forget(folder, "u1")[0] == 0


@pytest.mark.slow
def test_a_study_file_without_the_mark_is_not_gone_on_with(folder: Path) -> None:
    kept = (folder / "study.yaml").read_text()
    assert forget(folder, "u1")[0] == 0
    (folder / "study.yaml").write_text(kept)
    with pytest.raises(StudyError, match="1 are missing"):
        resume_study(folder, Console(quiet=True))


@pytest.mark.slow
def test_who_taught_only_the_base_takes_the_base_and_what_lies_on_it(folder: Path) -> None:
    assert list(folder.glob("base-*"))
    code, printed = forget(folder, OTHER)
    assert code == 0, printed
    assert "1  base stages removed" in printed
    assert list(folder.glob("base-*")) == []
    assert list(folder.rglob("adapter_model.safetensors")) == []


@pytest.mark.slow
def test_checkpoints_watches_kept_answers_and_other_stores_go(folder: Path) -> None:
    for name in ("checkpoints/trial-0/a", "responses/b", "results/search-00009-0.watch",
                 "study.sqlite3.damaged-1", "study.sqlite3.new-wal"):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("someone's words")
    assert forget(folder, "u1")[0] == 0
    assert holding(folder, b"someone's words") == []
    assert not (folder / "cache").exists()


@pytest.mark.slow
def test_examples_stand_in_the_report_and_their_folder_only(folder: Path) -> None:
    of_first = {one.query for one in read_examples(folder) if one.query.startswith("u1 ")}
    assert of_first
    assert all(one.query.startswith("u1 ") for one in read_examples(folder) if one.user == 1)
    asked = next(iter(of_first)).encode()
    assert {name.split("/")[0] for name in holding(folder, asked) if "/" in name} <= {"examples"}
    assert "report.html" in holding(folder, asked)
    page = (folder / "report.html").read_text()
    assert "né&#34;&lt;b&gt;&amp;" in page
    assert 'né"<b>' not in page
    left = {one.query for one in read_examples(folder)} - of_first
    assert forget(folder, "u1")[0] == 0
    assert {one.query for one in read_examples(folder)} == left
    assert holding(folder, asked) == []


@pytest.mark.slow
def test_somebody_unknown_is_refused_and_nobody_is_named(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(StudyError) as told:
        forget(folder, "u")
    assert "none of its users'" in str(told.value)
    assert not any(user in str(told.value) for user in [*TARGETS, OTHER])
    assert {path for path in before if path.read_bytes() != before[path]} == {folder / LOCK_NAME}


@pytest.mark.slow
def test_where_the_data_changed_nobody_can_tell_but_a_target_is_known(folder: Path) -> None:
    file = folder / "study.yaml"
    data = write_lines(folder / "other.jsonl", [line("x", n) for n in range(9)])
    was = load_study_spec(file).data.path
    file.write_text(file.read_text().replace(str(was), str(data)))
    with pytest.raises(StudyError, match="the data with which it began"):
        forget(folder, OTHER)
    data.unlink()
    code, printed = forget(folder, "u1")
    assert code == 0, printed


@pytest.mark.slow
def test_it_is_refused_while_a_driver_runs_the_study(folder: Path) -> None:
    lock = DriverLock.acquire(folder / LOCK_NAME)
    try:
        with pytest.raises(StudyError, match="driver"):
            forget(folder, "u1")
    finally:
        lock.release()
    assert holding(folder, b'"u1"')


@pytest.mark.slow
def test_nothing_is_removed_through_a_link(folder: Path, tmp_path: Path) -> None:
    elsewhere = folder.rename(tmp_path / "moved") / "adapters"
    shutil.copytree(tmp_path / "moved", folder, ignore=shutil.ignore_patterns("adapters", "base-*"))
    (folder / "adapters").symlink_to(elsewhere)
    (folder / "base-0").symlink_to(elsewhere)
    kept = {path: path.read_bytes() for path in elsewhere.rglob("*") if path.is_file()}
    with pytest.raises(StudyError, match="a link to another place"):
        forget(folder, "u1")
    (folder / "adapters").unlink()
    assert forget(folder, OTHER)[0] == 0
    assert not (folder / "base-0").is_symlink()
    assert {path: path.read_bytes() for path in elsewhere.rglob("*") if path.is_file()} == kept


@pytest.mark.slow
def test_the_command_exits_2_for_somebody_unknown(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "milp_search", "forget", str(folder), "--user", "-"],
        input="nobody\n", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "none of its users'" in done.stderr


@pytest.mark.slow
def test_a_place_that_it_cannot_mend_is_told(folder: Path) -> None:
    (folder / "notes.txt").write_text("u1 called")
    code, printed = forget(folder, "u1")
    assert code == 1
    assert "notes.txt: in its content" in printed


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="expected a study"):
        forget(tmp_path, "u1")


def test_an_id_is_read_from_one_place(tmp_path: Path) -> None:
    file = tmp_path / "id"
    file.write_bytes("né \r\n".encode())
    assert read_user("u1", None, StringIO()) == "u1"
    assert read_user("-", None, StringIO("u2\n")) == "u2"
    assert read_user(None, file, StringIO()) == "né "


def test_no_two_or_empty_or_broken_sources_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "id"
    file.write_bytes(b"\xff")
    for user, path in [(None, None), ("u1", file), (None, file), (None, tmp_path), ("", None)]:
        with pytest.raises(SpecError, match="expected"):
            read_user(user, path, StringIO())
    with pytest.raises(SpecError, match=r"as UTF-8, got: UnicodeDecodeError \(standard input\)"):
        read_user("-", None, TextIOWrapper(BytesIO(b"u\xff"), encoding="utf-8"))
