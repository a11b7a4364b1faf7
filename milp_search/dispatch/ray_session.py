"""A Ray session that is quiet, closed to the network, and gone when we are."""

from __future__ import annotations

import logging
import math
import os
import re
import secrets
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants, ray_logging, services

from milp_search.dispatch.ray_authentication import require_authentication
from milp_search.dispatch.ray_tune import RayError, RaySettings
from milp_search.dispatch.temporary_folder import temporary_folder

logger = logging.getLogger(__name__)

_MIB = 2**20

# ours: beside what the workers share, jobs and outcomes are a few KiB; Ray's own choice is a third
# of the memory.
_OBJECT_STORE_MEMORY = 200 * _MIB

# ours: with the 70 characters that Ray adds, a socket path stays below the system's 107.
_LONGEST_TEMPORARY_FOLDER = 30

# Our own, or Ray would write one into the home folder for all to read; one for the life of this
# process, because Ray keeps the first that it sees.
_TOKEN = secrets.token_hex(32)

_ENVIRONMENT = {
    # Ray starts workers at nice 15, where they starve on a busy machine.
    "RAY_worker_niceness": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Workers stay in the driver's folder, not in one of Tune's.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Tune prints nothing and writes no logs: the study has its own.
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    # Tune's handler would end the run with exit code 0.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Tune's snapshots are not used; one at the start and one at the end cannot be had away.
    "TUNE_GLOBAL_CHECKPOINT_S": str(10 * 365 * 24 * 3600),
}


@contextmanager
def ray_session(settings: RaySettings) -> Iterator[None]:
    """Holds a connection to Ray while the block runs.

    A session that this process is already connected to is used and left alone, a cluster named
    in the settings is left running; a session of our own ends with the block, files and all.

    Args:
        settings: The cluster to connect to, and what our own session must have room for.

    Raises:
        RayError: If there is no connection, or no room for a single job.
    """
    with ExitStack() as stack:
        stack.enter_context(environment(_ENVIRONMENT))
        stack.enter_context(quiet_loggers("ray"))
        # Ray prints a paragraph for each worker that dies; log_to_driver does not stop it.
        everything = re.compile("")
        stack.enter_context(attribute(ray_logging.stdout_deduplicator, "skip_re", everything))
        if not ray.is_initialized():
            stack.enter_context(_connected(settings))
        at_once = effective_parallelism(settings, ray.cluster_resources())
        logger.info("Ray runs %d jobs at once (asked for %d)", at_once, settings.parallel)
        yield


@contextmanager
def _connected(settings: RaySettings) -> Iterator[None]:
    """Connects this process to Ray, and disconnects it at the end."""
    with ExitStack() as stack:
        if settings.address is None:
            arguments = stack.enter_context(_own_session(settings))
        else:
            arguments = {"address": reachable(settings.address)}
        # Disconnects; ends the session only if this process started it.
        stack.callback(ray.shutdown)
        with signal_handlers_kept():
            try:
                ray.init(
                    **arguments,
                    log_to_driver=False,
                    configure_logging=False,
                    runtime_env={"env_vars": _worker_environment(settings)},
                )
            # Ray raises bare `Exception` as well, when a process of its own does not come up.
            except Exception as error:
                raise _no_session(settings.address, error) from error
        yield


@contextmanager
def _own_session(settings: RaySettings) -> Iterator[dict[str, object]]:
    """Yields the arguments of `ray.init` for a session on this machine only."""
    # Without "clusters" Ray keeps to the loopback address, as it does on macOS; otherwise it
    # replaces 127.0.0.1 and listens on every interface. The attribute is for this process, which
    # has read the variable already, the variable for those that Ray starts.
    loopback = attribute(ray_constants, "ENABLE_RAY_CLUSTER", False)
    # Ctrl-C in a terminal, and what ends a whole group, are for us: Ray must outlive the trials.
    popen = partial(services.ConsolePopen, process_group=0)
    apart = attribute(services, "ConsolePopen", popen)
    variables = {"RAY_AUTH_TOKEN": _TOKEN, ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR: "0"}
    with loopback, apart, environment(variables), _short_folder() as folder:
        yield {
            # Not "auto": neither RAY_ADDRESS nor a session of someone else is to be joined.
            "address": "local",
            "_temp_dir": str(folder),
            "_node_ip_address": "127.0.0.1",
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE_MEMORY + math.ceil(settings.shared_mib * _MIB),
            "num_cpus": math.ceil(settings.parallel * settings.cpus_per_trial),
            # None lets Ray count them.
            "num_gpus": None if settings.gpus_per_trial else 0,
        }


@contextmanager
def _short_folder() -> Iterator[Path]:
    parent = tempfile.gettempdir()
    with temporary_folder("/tmp" if len(parent) > _LONGEST_TEMPORARY_FOLDER else parent) as folder:
        # Ray makes the folder that it is given readable for all.
        yield folder / "r"


def reachable(address: str) -> str:
    """Returns the address if a cluster may be there; Ray itself takes minutes to give up."""
    if address.startswith("ray://"):
        raise RayError(
            f"expected the address of a cluster's head, got one of Ray Client, {address}",
            remedy="start milp-search on the cluster (`ray job submit -- ...`), with address auto",
        )
    require_authentication(address)
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5.0).close()
        except OSError as error:
            raise _no_session(address, error) from error
    return address


def _worker_environment(settings: RaySettings) -> dict[str, str]:
    return {"OMP_NUM_THREADS": str(max(1, int(settings.cpus_per_trial)))}


def _no_session(address: str | None, error: Exception) -> RayError:
    wanted = "Ray to start" if address is None else f"a Ray cluster at {address}"
    return RayError(
        f"expected {wanted}, got {type(error).__name__}: {error}",
        remedy="check the address and its token, or run with --local to do without Ray",
    )


def effective_parallelism(settings: RaySettings, resources: Mapping[str, float]) -> int:
    """Returns how many jobs the resources hold at once, at most as many as asked for.

    `resources` are what the cluster has in all, by Ray's names. Where no job fits, Ray would wait
    for room for ever: a RayError instead.
    """
    wanted = {"CPU": settings.cpus_per_trial, "GPU": settings.gpus_per_trial}
    # The small number keeps 1 / 0.1 from being 9.99.
    room = [int(resources.get(k, 0.0) / share + 1e-9) for k, share in wanted.items() if share]
    if min(room) < 1:
        has = {name: resources.get(name, 0.0) for name in wanted}
        raise RayError(
            f"expected room for a job of {wanted}, got {has} in all",
            remedy="lower the CPUs or GPUs per trial",
        )
    return min(settings.parallel, *room)


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables while the block runs."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def attribute(owner: Any, name: str, value: object) -> Iterator[None]:
    """Sets an attribute while the block runs."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def quiet_loggers(name: str) -> Iterator[None]:
    """Silences a logger and those below it while the block runs."""
    below = [n for n in logging.root.manager.loggerDict if n.startswith(f"{name}.")]
    loggers = [logging.getLogger(n) for n in (name, *below)]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)


@contextmanager
def signal_handlers_kept() -> Iterator[None]:
    """Puts back the handlers of SIGINT, SIGTERM and SIGUSR1 after the block."""
    # Only the main thread may set handlers; elsewhere Ray and Tune set none either.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
