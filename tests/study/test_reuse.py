"""What trials took from the cache: counted, kept in the store, told."""

from __future__ import annotations

import json

import pytest

from milp_search.core.arm import Arm
from milp_search.core.trial import Measurement, Trial
from milp_search.study.events import Completed, as_replayed
from milp_search.study.replay import replay
from milp_search.study.report import render_report
from milp_search.study.reuse import reuse_text, total_reuse
from milp_search.study.study import Study
from study.making import Make

# GPyTorch scripts functions when it is imported, which Torch no longer likes.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")

VALUES = {"loss": 2.0, "rouge_l": 0.5}


def test_counts_are_summed_over_the_trials_by_kind() -> None:
    trials = [
        Trial(0, Arm({}), reused={"global_adapters": (1, 4), "embeddings": (0, 2)}),
        Trial(1, Arm({}), reused={"global_adapters": (3, 4)}),
        Trial(2, Arm({})),
    ]
    assert total_reuse(trials) == {"embeddings": (0, 2), "global_adapters": (4, 8)}
    assert total_reuse([]) == {}


def test_counts_are_told_in_words_without_kinds_that_nobody_asked_for() -> None:
    counts = {"global_adapters": (3, 40), "retrieval": (0, 0), "embeddings": (0, 2)}
    assert reuse_text(counts) == "global adapters 3 of 40, embeddings 0 of 2"
    assert reuse_text({}) == ""


def test_pack_and_reuse_of_a_trial_are_in_the_store(make: Make) -> None:
    study = make()
    study.tell(study.ask().index, VALUES, 1.5, pack=3, reused={"embeddings": (1, 2)})
    study.close()
    with Study.open(study.folder, read_only=True) as again:
        (trial,) = again.trials
    assert (trial.pack, dict(trial.reused)) == (3, {"embeddings": (1, 2)})


def test_a_trial_that_is_only_told_was_alone_and_reused_nothing(make: Make) -> None:
    study = make()
    trial = study.tell(study.ask().index, VALUES)
    assert (trial.pack, dict(trial.reused)) == (1, {})


def test_a_store_of_an_earlier_version_still_replays() -> None:
    values = {
        "measurements": {"loss": {"mean": 2.0, "sem": None, "per_user": []}},
        "duration_s": 3.0,
    }
    old = Completed.from_dict(json.loads(json.dumps(values)))
    assert old == Completed({"loss": Measurement(2.0)}, 3.0, 1, {})


def test_what_is_told_comes_back_from_disk_as_it_was(make: Make) -> None:
    study = make()
    study.tell(study.ask().index, VALUES, pack=2, reused={"embeddings": (1, 2)})
    events = study._store.read()
    assert replay(events) == replay([as_replayed(event) for event in events]) == study.state


def test_the_report_says_what_was_reused(make: Make) -> None:
    study = make()
    study.tell(study.ask().index, VALUES, reused={"global_adapters": (3, 40)})
    assert "global adapters 3 of 40" in render_report(study)
    bare = make()
    assert "<dt>Reused</dt>" not in render_report(bare)
