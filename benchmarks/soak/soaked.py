"""Runs a study of trials that train nothing through Ray Tune, and looks at its processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from luck import Luck
from rich.console import Console
from unlucky import UnluckyWorker
from vitals import descendants, folder_mib, vitals

from milp_search.core.model_shape import LinearMap, ModelShape
from milp_search.core.trial import Objective
from milp_search.dispatch.progress import Progress, ended
from milp_search.dispatch.ray_tune import ray_settings, run_with_ray
from milp_search.dispatch.source import StudySource
from milp_search.space.space_file import load_search_space
from milp_search.study.export import export
from milp_search.study.spec import Budget, DispatchSettings, StudySpec
from milp_search.study.study import STORE_NAME, Study

SHAPE = ModelShape(8, "model.layers", (LinearMap("up", "mlp.up", 8, 24),))
OBJECTIVES = (Objective("loss", "minimize", 9.0), Objective("rouge_l", "maximize", 0.0))


@dataclass(frozen=True)
class Samples:
    """What was seen along the way.

    Attributes:
        driver: Per look: trials ended, wall and CPU seconds of the driver so far, its vitals, the
            store's and the log's MiB, and what Ray's own processes hold and have logged.
        workers: Per look and living worker: its process, the attempts it has run, its vitals.
        seconds: Of the whole run.
    """

    driver: list[dict[str, Any]] = field(default_factory=list)
    workers: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


def soak(
    folder: Path, ledger: Path, spec: StudySpec, luck: Luck, every: int, console: Console
) -> Samples:
    """Returns what was seen every so many trials of a whole study.

    All of it is as in a study but the training: asks, the store's commits, packs through Tune,
    result files, retries, the line of progress, the front after each trial, exports in the end.

    Args:
        folder: The study's, not there yet.
        ledger: Where workers note what they did; a folder.
        spec: The study.
        luck: What becomes of the attempts.
        every: How many trials lie between two looks.
        console: Where progress is shown.

    Returns:
        The samples.
    """
    started, samples = time.monotonic(), Samples()
    with Study.create(
        folder,
        space=load_search_space(spec.space, layers=SHAPE.layers),
        objectives=OBJECTIVES,
        proposer=spec.proposer,
        preset=spec.preset,
        initial_trials=spec.initial_trials,
        shape=SHAPE,
    ) as study:
        progress = Progress(study, spec.budget.trials, console)
        look = _looking(study, ledger, every, samples, started)

        def on_change() -> None:
            progress.show()
            look()

        source = StudySource(study, spec, on_change=on_change)
        source.adopt()
        run_with_ray(
            source,
            make_runner=UnluckyWorker(folder.absolute(), ledger.absolute(), luck),
            settings=ray_settings(spec.dispatch),
        )
        source.close()
        export(study)
    return Samples(samples.driver, samples.workers, time.monotonic() - started)


def study_spec(trials: int, parallel: int, proposer: str) -> StudySpec:
    """Returns a study of random arms, or of another proposer's."""
    return StudySpec(
        space="milp",
        objectives=OBJECTIVES,
        proposer=proposer,
        initial_trials=16,
        budget=Budget(trials=trials),
        batch=4,
        dispatch=DispatchSettings(parallel=parallel, pack=1),
        test_seeds=(),
    )


def _looking(
    study: Study, ledger: Path, every: int, samples: Samples, started: float
) -> Callable[[], None]:
    """Returns a function that looks at the processes where enough trials have ended since."""

    def look() -> None:
        count = ended(study.trials)
        if samples.driver and count < samples.driver[-1]["trials"] + every:
            return
        workers = {int(path.name): path for path in ledger.iterdir()}
        samples.driver.append(
            {
                "trials": count,
                "wall_s": time.monotonic() - started,
                "cpu_s": time.process_time(),
                "store_mib": (study.folder / STORE_NAME).stat().st_size / 2**20,
                "folder_mib": folder_mib(study.folder),
                **_seen(os.getpid()),
                **_ray(workers),
            }
        )
        for pid, file in workers.items():
            if seen := _seen(pid):
                attempts = len(file.read_text().splitlines()) - 1
                samples.workers.append({"pid": pid, "trials": count, "attempts": attempts, **seen})

    return look


def _seen(pid: int) -> dict[str, Any]:
    found = vitals(pid)
    return {} if found is None else asdict(found)


def _ray(workers: dict[int, Path]) -> dict[str, float]:
    """Returns what Ray's processes beside our workers hold, and the size of its session."""
    import ray

    others = [vitals(pid) for pid in descendants(os.getpid()) if pid not in workers]
    session = ray._private.worker._global_node.get_session_dir_path()
    return {
        "ray_mib": sum(one.resident_mib for one in others if one is not None),
        "ray_files_mib": folder_mib(Path(session)),
    }
