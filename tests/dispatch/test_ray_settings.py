"""What needs no Ray session."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import ray

from milp_search.dispatch.jobs import Pack
from milp_search.dispatch.ray_session import (
    attribute,
    effective_parallelism,
    environment,
    quiet_loggers,
    ray_session,
    reachable,
    signal_handlers_kept,
)
from milp_search.dispatch.ray_tune import RayError, RaySettings, ray_settings, run_with_ray
from milp_search.study.spec import DispatchSettings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"parallel": 0}, "at least 1 parallel trial, got 0"),
        ({"cpus_per_trial": 0.0}, "positive cpus_per_trial, got 0.0"),
        ({"gpus_per_trial": -1.0}, "no negative gpus_per_trial, got -1.0"),
        ({"gpus_per_trial": float("nan")}, "no negative gpus_per_trial, got nan"),
    ],
)
def test_settings_that_no_machine_can_meet_are_refused(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(RayError, match=message):
        RaySettings(**values)


@pytest.mark.parametrize(
    ("settings", "resources", "expected"),
    [
        (RaySettings(parallel=2), {"CPU": 8.0}, 2),
        (RaySettings(parallel=9), {"CPU": 8.0}, 8),
        (RaySettings(parallel=9, cpus_per_trial=3.0), {"CPU": 8.0}, 2),
        (RaySettings(parallel=9, gpus_per_trial=0.5), {"CPU": 8.0, "GPU": 2.0}, 4),
        (RaySettings(parallel=20, gpus_per_trial=0.1), {"CPU": 32.0, "GPU": 1.0}, 10),
    ],
)
def test_the_scarcest_resource_limits_how_many_jobs_run_at_once(
    settings: RaySettings, resources: dict[str, float], expected: int
) -> None:
    assert effective_parallelism(settings, resources) == expected


def test_a_job_that_fits_nowhere_is_refused_instead_of_waiting_for_ever() -> None:
    with pytest.raises(RayError, match=r"'GPU': 1.0}, got .*'GPU': 0.0"):
        effective_parallelism(RaySettings(gpus_per_trial=1.0), {"CPU": 8.0})


def test_a_cluster_that_is_not_there_is_refused_with_the_remedy_to_run_locally() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert reachable(address) == address
    with pytest.raises(RayError, match=rf"a Ray cluster at {address}, got (.|\n)*--local"):
        reachable(address)


def test_an_address_that_ray_finds_itself_is_left_to_it() -> None:
    assert reachable("auto") == "auto"


def test_ray_client_is_refused_because_its_driver_would_not_be_this_process() -> None:
    with pytest.raises(RayError, match=r"ray job submit"):
        reachable("ray://head:10001")


def test_a_session_that_does_not_start_is_an_input_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(**arguments: object) -> None:
        raise Exception("timed out during startup")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(ray, "init", fail)
    before = set(Path("/tmp").glob("milp-*"))
    with (
        pytest.raises(RayError, match=r"got Exception: timed out(.|\n)*--local"),
        ray_session(RaySettings()),
    ):
        pass
    assert set(Path("/tmp").glob("milp-*")) <= before


def test_what_the_workers_share_has_room_in_the_object_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: dict[str, Any] = {}

    def fail(**arguments: object) -> None:
        given.update(arguments)
        raise Exception("enough seen")

    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(RayError), ray_session(RaySettings(shared_mib=16.5)):
        pass
    assert given["object_store_memory"] == int((200 + 16.5) * 2**20)


def test_a_study_file_says_what_ray_is_to_give() -> None:
    settings = DispatchSettings(
        parallel=3, cpus_per_trial=2.0, gpus_per_trial=0.5, ray_address="head:1"
    )
    assert ray_settings(settings, 7.0) == RaySettings(3, 2.0, 0.5, 7.0, "head:1")


class Finished:
    finished = True

    def next(self) -> Pack:
        raise AssertionError("a finished source is not asked")

    def done(self, job: Any, outcome: Any) -> None:
        raise AssertionError("no job was handed out")


def test_without_ray_the_remedy_is_to_run_locally(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "milp_search.dispatch.ray_session")
    monkeypatch.delattr(sys.modules["milp_search.dispatch"], "ray_session")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RayError, match=r"importable(.|\n)*--local"):
        run_with_ray(Finished(), make_runner=lambda: lambda pack: [], settings=RaySettings())


def test_environment_variables_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILP_KEPT", "before")
    with environment({"MILP_KEPT": "inside", "MILP_NEW": "inside"}):
        assert os.environ["MILP_KEPT"] == os.environ["MILP_NEW"] == "inside"
    assert os.environ["MILP_KEPT"] == "before"
    assert "MILP_NEW" not in os.environ


def test_attributes_are_put_back() -> None:
    class Owner:
        value = 1

    with attribute(Owner, "value", 2):
        assert Owner.value == 2
    assert Owner.value == 1


def test_loggers_are_quiet_inside_and_as_before_after() -> None:
    above, below = logging.getLogger("milp_quiet"), logging.getLogger("milp_quiet.below")
    below.setLevel(logging.INFO)
    with quiet_loggers("milp_quiet"):
        assert not above.isEnabledFor(logging.ERROR)
        assert not below.isEnabledFor(logging.ERROR)
    assert (above.level, below.level) == (logging.NOTSET, logging.INFO)


def test_signal_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with signal_handlers_kept():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGTERM) is before
