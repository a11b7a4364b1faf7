"""The peers of the search benchmark, on a problem that is small and without noise."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from milp_search.core.arm import Arm
from milp_search.core.errors import InputError
from milp_search.core.trial import Measurement, Objective
from milp_search.space.parameter import Parameter

pytestmark = [
    pytest.mark.slow,
    # Of the peers' own libraries, and of forks that run another program at once.
    pytest.mark.filterwarnings("ignore"),
]

FOLDER = Path(__file__).parents[2] / "benchmarks" / "search"
LIBRARIES = {"optuna": "optuna", "smac": "smac"}
PARAMETERS = (
    Parameter("rank", (2, 4, 8, 16)),
    Parameter("layer_0", (False, True)),
    Parameter("layer_1", (False, True)),
    Parameter("items", (0, 1, 2, 3, 4)),
    # Without effect: SMAC gives up where nearly all of a small space has been tried.
    Parameter("layer_2", (False, True)),
    Parameter("layer_3", (False, True)),
    Parameter("layer_4", (False, True)),
    Parameter("fixed", (7,)),
)
OBJECTIVES = (Objective("loss", "minimize", 5.0), Objective("rouge", "maximize", -1.0))
NAMES = (
    "random", "sobol", "optuna_tpe", "optuna_tpe_multivariate", "optuna_gp", "optuna_nsga2",
    "smac_parego", "ax_default", "botorch_autopeft",
)  # fmt: skip
# Each of its fits compiles anew.
FEW = {"botorch_autopeft": 6}
LEARNING = ("optuna_tpe", "optuna_gp", "smac_parego", "ax_default")


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Imports a module of the benchmark by name."""
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module
    for name in [path.stem for path in FOLDER.glob("*.py")]:
        sys.modules.pop(name, None)


def outcome_of(arm: Arm) -> dict[str, Measurement]:
    """Returns values that are best at rank 16 with layer 0 and no items."""
    rank, items = float(arm["rank"]), float(arm["items"])
    loss = 4.0 - 1.5 * bool(arm["layer_0"]) - rank / 16.0 + items / 4.0
    rouge = 0.1 * bool(arm["layer_0"]) + rank / 32.0 - items / 8.0
    return {"loss": Measurement(loss, 0.0), "rouge": Measurement(rouge, 0.0)}


def tried(
    modules: Any,
    name: str,
    seed: int,
    trials: int,
    fails: Callable[[int, Arm], bool] | None = None,
) -> list[Arm]:
    library = LIBRARIES.get(name.split("_")[0])
    if library is not None and importlib.util.find_spec(library) is None:
        pytest.skip(f"needs the extra `peers`: {library} is not installed")
    task = modules("method").Task(PARAMETERS, OBJECTIVES, 5, trials, fails is not None)
    methods = modules("methods")
    if name == "botorch_autopeft":
        module = modules("peer_autopeft")
        module.WARMUP, module.SAMPLES, module.EVALUATIONS = 4, 4, 50
    peer = methods.make_peer(name, task, seed)
    arms: list[Arm] = []
    while len(arms) < trials:
        asked = peer.ask(min(methods.PEERS[name].batch, trials - len(arms)))
        for arm in asked:
            failed = fails is not None and fails(len(arms), arm)
            peer.tell(arm, None if failed else outcome_of(arm))
            arms.append(arm)
    return arms


@pytest.mark.parametrize("name", NAMES)
def test_a_peer_proposes_arms_of_the_space_and_survives_failures(modules: Any, name: str) -> None:
    trials = FEW.get(name, 10)
    arms = tried(modules, name, 0, trials, lambda place, _: place % 3 == 0)
    assert len(arms) == trials
    for arm in arms:
        assert {*arm} == {one.name for one in PARAMETERS}
        assert all(arm[one.name] in one for one in PARAMETERS)


@pytest.mark.parametrize("name", NAMES)
def test_a_peer_repeats_itself_by_its_seed(modules: Any, name: str) -> None:
    # SMAC between processes only under a fixed PYTHONHASHSEED.
    trials = FEW.get(name, 8)
    assert tried(modules, name, 3, trials) == tried(modules, name, 3, trials)
    assert tried(modules, name, 3, 5) != tried(modules, name, 4, 5)


@pytest.mark.parametrize("name", LEARNING)
def test_a_peer_that_learns_makes_for_the_better_side_of_both_objectives(
    modules: Any, name: str
) -> None:
    found = [outcome_of(arm) for arm in tried(modules, name, 1, 20)]
    early, late = (
        np.mean([[one["loss"].mean, one["rouge"].mean] for one in part], axis=0)
        for part in (found[:5], found[12:])
    )
    assert late[0] < early[0]
    assert late[1] > early[1]


@pytest.mark.parametrize("name", LEARNING)
def test_a_peer_lets_go_of_an_arm_that_fails(modules: Any, name: str) -> None:
    # What would be best fails: a peer that forgets failures proposes it again and again.
    arms = tried(modules, name, 1, 14, lambda _, arm: arm["items"] == 0)
    failed = Counter(arm for arm in arms if arm["items"] == 0)
    assert len(failed) >= 2
    assert max(failed.values()) <= 3


def test_a_peer_whose_library_is_missing_says_how_to_install_it(
    modules: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    task = modules("method").Task(PARAMETERS, OBJECTIVES, 5, 10)
    with pytest.raises(InputError, match=r"optuna_tpe.*\n.*\[peers\]"):
        modules("methods").make_peer("optuna_tpe", task, 0)


def test_every_peer_is_tested(modules: Any) -> None:
    assert {*NAMES} == {*modules("methods").PEERS}
