"""Real sessions, real workers; one session serves the tests that do not look at sessions."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import pytest
import ray
from ray import cloudpickle
from ray.tune.experiment import Trial as TuneTrial

from milp_search.core.errors import ModelError
from milp_search.core.plan import AdapterPlan, TrialPlan
from milp_search.core.trial import Measurement
from milp_search.dispatch.jobs import Job, Outcome, Pack, RunPack
from milp_search.dispatch.lost_gpu import LostGpuError
from milp_search.dispatch.ray_session import ray_session
from milp_search.dispatch.ray_trials import _slim
from milp_search.dispatch.ray_tune import RayError, RaySettings, run_with_ray

pytestmark = pytest.mark.slow

SETTINGS = RaySettings(parallel=2)
PLAN = TrialPlan("milp_logo", AdapterPlan((8, 0, 4)))


@dataclass(frozen=True)
class Worker:
    """Makes a runner that notes what it did in `ledger`, a folder with a file for each process."""

    ledger: Path

    def __call__(self) -> RunPack:
        self._write("made")
        return self._run

    def _write(self, line: str) -> None:
        with (self.ledger / str(os.getpid())).open("a") as file:
            file.write(f"{line}\n")

    def _run(self, pack: Pack) -> list[Outcome]:
        return [self._run_one(job, len(pack)) for job in pack]

    def _run_one(self, job: Job, size: int) -> Outcome:
        started = time.monotonic()
        if job.seed == RAISE:
            raise KeyError("no such thing")
        if job.seed == DIE and job.attempt == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        if job.seed == LOSE_GPU and job.attempt == 0:
            raise LostGpuError("expected the GPU to go on, got an illegal memory access")
        time.sleep(max(0, job.seed) / 1000)
        self._write(f"{job.name} {started} {time.monotonic()}")
        loss = Measurement(job.trial / 3, 0.25, (0.1, job.trial / 7))
        return Outcome({"loss": loss}, None, 1.5, size, {"global_adapters": (1, 2)})


RAISE, DIE, LOSE_GPU = -1, -2, -3


@dataclass
class Phases:
    """Hands out one list of jobs after the other, the next once the one before has ended.

    `pack` jobs go together.

    A job's seed is its length in milliseconds, RAISE, DIE or LOSE_GPU. Between two lists there is
    nothing to hand out for `rest_s`.
    """

    phases: list[list[Job]]
    rest_s: float = 0.0
    pack: int = 1
    ended: list[tuple[Job, Outcome]] = field(default_factory=list)
    out: int = 0
    idle_since: float = 0.0
    stopped: bool = False

    @property
    def finished(self) -> bool:
        return self.stopped or not (self.phases or self.out)

    def next(self) -> Pack:
        if self.phases and not self.phases[0] and not self.out:
            self.idle_since = self.idle_since or time.monotonic()
            if time.monotonic() - self.idle_since >= self.rest_s:
                self.phases.pop(0)
        if not self.phases or not self.phases[0]:
            return ()
        pack = tuple(self.phases[0][: self.pack])
        del self.phases[0][: self.pack]
        self.out += len(pack)
        return pack

    def done(self, job: Job, outcome: Outcome) -> None:
        self.out -= 1
        self.ended.append((job, outcome))
        lost = outcome.failure is not None and outcome.failure.kind == "lost_worker"
        if lost and job.attempt == 0:
            self.phases[0].append(replace(job, attempt=1))
        if len(self.phases) == 1 and not self.phases[0] and not self.out:
            self.phases.clear()


def jobs(*seeds: int, first: int = 0) -> list[Job]:
    return [Job("search", first + n, 0, PLAN, seed) for n, seed in enumerate(seeds)]


def ledger_lines(ledger: Path) -> list[str]:
    return [line for file in ledger.iterdir() for line in file.read_text().splitlines()]


def spans(ledger: Path) -> dict[str, tuple[float, float]]:
    words = [line.split() for line in ledger_lines(ledger) if line != "made"]
    return {name: (float(start), float(end)) for name, start, end in words}


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with ray_session(SETTINGS):
        yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def searched(
    session: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Phases, Path, list[float]]:
    """A whole study: long jobs, a raising one, a rest, and many short jobs."""
    ledger = tmp_path_factory.mktemp("ledger")
    source = Phases(
        [
            jobs(6000, 6000, RAISE, 10),
            [replace(job, kind="test") for job in jobs(*[0] * 40, first=100)],
        ],
        rest_s=2.0,
    )
    ticks: list[float] = []
    run_with_ray(
        source,
        make_runner=Worker(ledger),
        settings=SETTINGS,
        on_tick=lambda: ticks.append(time.monotonic()),
    )
    return source, ledger, ticks


def test_every_job_runs_exactly_once(searched: tuple[Phases, Path, list[float]]) -> None:
    source, ledger, _ = searched
    expected = [*range(4), *range(100, 140)]
    assert sorted(job.trial for job, _ in source.ended) == expected
    ran = sorted(line.split()[0] for line in ledger_lines(ledger) if line != "made")
    wanted = [f"search-{n:05d}-0" for n in (0, 1, 3)]
    assert ran == wanted + [f"test-{n:05d}-seed0-0" for n in range(100, 140)]


def test_an_outcome_comes_back_as_it_left_the_worker(
    searched: tuple[Phases, Path, list[float]],
) -> None:
    outcomes = {job.trial: outcome for job, outcome in searched[0].ended}
    loss = Measurement(101 / 3, 0.25, (0.1, 101 / 7))
    assert outcomes[101] == Outcome({"loss": loss}, None, 1.5, 1, {"global_adapters": (1, 2)})


def test_two_jobs_overlap_when_two_may(searched: tuple[Phases, Path, list[float]]) -> None:
    times = spans(searched[1])
    first, second = times["search-00000-0"], times["search-00001-0"]
    assert min(first[1], second[1]) - max(first[0], second[0]) > 1.0


def test_a_job_that_raises_is_an_exception_at_its_place_which_quotes_nobody(
    searched: tuple[Phases, Path, list[float]],
) -> None:
    (failure,) = [outcome.failure for _, outcome in searched[0].ended if outcome.failure]
    assert failure.kind == "exception"
    assert re.fullmatch(r"KeyError at test_ray_tune\.py:\d+", failure.reason)


def test_workers_outlive_a_rest_and_load_once(
    searched: tuple[Phases, Path, list[float]],
) -> None:
    files = list(searched[1].iterdir())
    assert len(files) == 2
    for file in files:
        lines = file.read_text().splitlines()
        assert lines.count("made") == 1
        assert any(line.startswith("test-") for line in lines)


def test_a_job_after_the_first_costs_less_than_50_ms(
    searched: tuple[Phases, Path, list[float]],
) -> None:
    starts = sorted(
        start for name, (start, _) in spans(searched[1]).items() if name.startswith("test-")
    )
    # Two workers share 40 jobs: 19 follow the first on each. The median leaves the noise out.
    gaps = sorted(b - a for a, b in pairwise(starts))
    assert 2 * gaps[len(gaps) // 2] < 0.05


def test_the_driver_is_called_between_events(
    searched: tuple[Phases, Path, list[float]],
) -> None:
    ticks = searched[2]
    gaps = sorted(b - a for a, b in pairwise(ticks))
    assert len(ticks) > 30
    assert gaps[len(gaps) // 2] < 0.2


@pytest.mark.parametrize("end", [DIE, LOSE_GPU], ids=["killed", "without its GPU"])
def test_a_worker_that_ends_is_a_lost_worker_and_the_study_goes_on(
    end: int, session: None, tmp_path: Path
) -> None:
    source = Phases([jobs(end, 10, 10, 10)], pack=2)
    run_with_ray(source, make_runner=Worker(tmp_path), settings=SETTINGS)
    failures = {(job.trial, job.attempt): o.failure for job, o in source.ended}
    # Each job of the pack has lost an attempt; those of the other pack have not.
    assert sorted(failures) == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (3, 0)]
    lost = failures.pop((0, 0))
    assert failures.pop((1, 0)) == lost
    assert lost is not None
    assert lost.kind == "lost_worker"
    assert lost.reason.startswith("Worker unexpectedly exits")
    assert "\x1b" not in lost.reason
    assert set(failures.values()) == {None}


def test_a_worker_that_cannot_begin_ends_the_run_and_no_trial(session: None) -> None:
    def make_runner() -> RunPack:
        raise FileNotFoundError("a user's text")

    source = Phases([jobs(10, 10, 10, 10)])
    with pytest.raises(RayError, match=r"cannot work: FileNotFoundError at \S+\.py") as caught:
        run_with_ray(source, make_runner=make_runner, settings=SETTINGS)
    assert "a user's text" not in str(caught.value)
    assert source.ended == []


def test_what_a_worker_cannot_begin_for_is_told_in_our_own_words(session: None) -> None:
    def make_runner() -> RunPack:
        raise ModelError("expected a model, got none", remedy="Give another folder.")

    with pytest.raises(RayError, match="cannot work: expected a model, got none"):
        run_with_ray(Phases([jobs(10)]), make_runner=make_runner, settings=SETTINGS)


def test_a_source_that_finishes_early_lets_running_jobs_end(session: None, tmp_path: Path) -> None:
    source = Phases([jobs(1000, 1000, 1000, 1000)])

    def stop() -> None:
        source.stopped = source.stopped or any(tmp_path.iterdir())

    run_with_ray(source, make_runner=Worker(tmp_path), settings=SETTINGS, on_tick=stop)
    assert 1 <= len(source.ended) <= 2
    assert source.out == 0


class Broken(Phases):
    def done(self, job: Job, outcome: Outcome) -> None:
        raise OSError("disk full")


def test_what_the_source_raises_comes_out(session: None, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="disk full"):
        run_with_ray(Broken([jobs(10, 10)]), make_runner=Worker(tmp_path), settings=SETTINGS)


def python(
    script: str, *, session: bool = False, **options: Path | str
) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**clean, **{name: str(value) for name, value in options.items()}},
        cwd=options["HOME"],
        start_new_session=session,
    )


DRIVER = """
    import os, signal, threading, time
    from pathlib import Path
    from milp_search.core.plan import AdapterPlan, TrialPlan
    from milp_search.core.trial import Measurement
    from milp_search.dispatch.jobs import Job, Outcome
    from milp_search.dispatch.ray_tune import RaySettings, run_with_ray

    def make_runner():
        def run(pack):
            Path("started").touch()
            time.sleep(pack[0].seed)
            values = {
                "omp": float(os.environ["OMP_NUM_THREADS"]),
                "nice": float(os.nice(0)),
            }
            return [Outcome({name: Measurement(value) for name, value in values.items()})]
        return run

    class Source:
        finished = False
        def __init__(self, seconds):
            self.waiting = [(Job("search", 0, 0, TrialPlan("base", AdapterPlan(())), seconds),)]
        def next(self):
            return self.waiting.pop() if self.waiting else ()
        def done(self, job, outcome):
            Source.finished = True
            print({name: m.mean for name, m in outcome.measurements.items()})

    def listening():
        # /proc/net/tcp*: local address, state 0A; those of this network namespace
        lines = [line.split() for name in ("tcp", "tcp6")
                 for line in Path("/proc/net", name).read_text().splitlines()]
        return {line[1] for line in lines if line[3] == "0A"}
"""


def test_our_own_session_is_closed_quiet_and_leaves_nothing(tmp_path: Path) -> None:
    script = textwrap.dedent(DRIVER) + textwrap.dedent(
        """
        before = listening()
        seen = set()
        def look():
            seen.update(a.split(":")[0] for a in listening() - before)
        handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
        variables = dict(os.environ)
        run_with_ray(
            Source(1), make_runner=make_runner, settings=RaySettings(1, 2.0), on_tick=look
        )
        print(sorted(seen))
        print(handlers == [
            signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
        ])
        print(*(n for n in variables.keys() | os.environ.keys()
                if variables.get(n) != os.environ.get(n)))
        """
    )
    # Short, for Ray puts sockets below it.
    with tempfile.TemporaryDirectory(dir="/tmp") as temporary:
        run = python(script, HOME=tmp_path, TMPDIR=temporary)
        assert list(Path(temporary).iterdir()) == []
    assert run.stderr == ""
    values, addresses, handlers, variables = run.stdout.splitlines()
    # Nothing else was printed; two CPUs are two threads; workers are as nice as we are.
    assert values == f"{{'omp': 2.0, 'nice': {float(os.nice(0))}}}"
    # 127.0.0.1 and ::ffff:127.0.0.1, as the kernel writes them.
    loopback = {"0100007F", "0000000000000000FFFF00000100007F"}
    assert set(eval_list(addresses)) <= loopback
    assert handlers == "True"
    # Ray's own notes to itself.
    assert set(variables.split()) <= {"RAY_AUTH_MODE", "RAY_CLIENT_MODE", "PYTHONBREAKPOINT"}
    assert [path.name for path in tmp_path.iterdir()] == ["started"]


def eval_list(text: str) -> list[str]:
    return [word.strip("' ") for word in text.strip("[]").split(",")]


def test_a_cluster_that_we_join_runs_the_jobs_and_goes_on(tmp_path: Path) -> None:
    script = textwrap.dedent(DRIVER) + textwrap.dedent(
        """
        import shutil, tempfile
        import ray
        from ray.cluster_utils import Cluster
        # Where Ray notes the address of a cluster.
        Path("/tmp/ray").mkdir(exist_ok=True)
        folder = tempfile.mkdtemp(prefix="milp-", dir="/tmp")
        head = {"num_cpus": 1, "include_dashboard": False, "temp_dir": folder}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        for _ in range(2):
            Source.finished = False
            run_with_ray(
                Source(0), make_runner=make_runner, settings=RaySettings(address=cluster.address)
            )
            assert not ray.is_initialized()
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
        """
    )
    run = python(script, HOME=tmp_path, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64)
    assert run.stdout.count("{'omp': 1.0") == 2, run.stderr


def test_a_handler_that_raises_ends_everything_at_once(tmp_path: Path) -> None:
    script = textwrap.dedent(DRIVER) + textwrap.dedent(
        """
        def stop(number, frame):
            raise KeyboardInterrupt
        signal.signal(signal.SIGTERM, stop)
        def terminate():
            while not os.path.exists("started"):
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGTERM)
        threading.Thread(target=terminate, daemon=True).start()
        try:
            run_with_ray(Source(600), make_runner=make_runner, settings=RaySettings())
        except KeyboardInterrupt:
            print("stopped")
        """
    )
    run = python(script, HOME=tmp_path)
    assert (run.stdout, run.stderr, run.returncode) == ("stopped\n", "", 0)


def test_a_session_that_is_there_already_is_left_running(session: None, tmp_path: Path) -> None:
    run_with_ray(Phases([jobs(1)]), make_runner=Worker(tmp_path), settings=SETTINGS)
    assert ray.is_initialized()


def test_a_session_without_room_for_a_job_is_refused(session: None) -> None:
    with (
        pytest.raises(RayError, match="expected room for a job"),
        ray_session(RaySettings(cpus_per_trial=64.0)),
    ):
        pass


def test_a_signal_to_the_group_reaches_the_driver_and_neither_ray_nor_its_workers(
    tmp_path: Path,
) -> None:
    script = textwrap.dedent(DRIVER) + textwrap.dedent(
        """
        came = []
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, frame: came.append(number))
        def interrupt():
            while not os.path.exists("started"):
                time.sleep(0.05)
            for number in (signal.SIGINT, signal.SIGTERM):
                os.killpg(os.getpgrp(), number)
        threading.Thread(target=interrupt, daemon=True).start()
        run_with_ray(Source(3), make_runner=make_runner, settings=RaySettings())
        print([signal.Signals(number).name for number in came])
        """
    )
    run = python(script, HOME=tmp_path, session=True)
    assert run.stdout.splitlines()[1:] == ["['SIGINT', 'SIGTERM']"], run.stderr
    assert run.stdout.startswith("{'omp': 1.0")


def test_of_an_ended_trial_tune_keeps_no_measures_to_compare_it_by() -> None:
    trial = TuneTrial("worker", stub=True)
    trial.update_last_result({"training_iteration": 1, "time_total_s": 1.0, "outcomes": "x" * 1000})
    assert trial.metric_n_steps
    _slim(trial)
    assert (trial.metric_n_steps, trial.metric_analysis) == ({}, {})
    assert trial.last_result.keys() == {"done", "trial_id"}
    assert "xxx" not in "".join(trial.get_json_state())
