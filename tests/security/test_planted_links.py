"""Links that someone plants in the folder of a running study lead no writing out of it."""

from __future__ import annotations

import shutil
from contextlib import suppress
from io import StringIO
from pathlib import Path

import pytest

from dispatch.small_study import small_study
from milp_search.core.errors import StudyError
from milp_search.dispatch.console import PlainConsole
from milp_search.dispatch.drive import prepare, run_study
from milp_search.dispatch.jobs import Job, Outcome
from milp_search.dispatch.source import StudySource
from milp_search.study.spec_file import load_study_spec

PLACES = (
    "results", "adapters", "cache", "checkpoints", "log.txt", "report.html", "adapters/trial-1",
    "adapters/trial-1.partial", "results/search-00001-0.json", "results/search-00001-0.watch",
)  # fmt: skip


def plant(place: Path, elsewhere: Path) -> None:
    """Puts a link where something of the study's lies, or is going to."""
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.symlink_to(elsewhere)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_nothing_is_written_or_removed_through_a_link(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "theirs.json").write_text("theirs")
    target = elsewhere / "theirs.json" if "." in Path(place).name[-5:] else elsewhere
    file, folder = small_study(tmp_path, trials=2), tmp_path / "out"
    done = StudySource.done

    def plant_then(source: StudySource, job: Job, outcome: Outcome) -> None:
        done(source, job, outcome)
        if job.name == "search-00000-0":
            plant(folder / place, target)

    monkeypatch.setattr(StudySource, "done", plant_then)
    spec = load_study_spec(file, {"dispatch.local": True, "test_seeds": []})
    with suppress(StudyError):  # a link is replaced, or refused
        run_study(prepare(spec, file), folder, PlainConsole(file=StringIO()))
    assert content(elsewhere) == {"theirs.json": b"theirs"}
