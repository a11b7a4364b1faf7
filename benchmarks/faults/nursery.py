"""Starts drivers quickly: they are forked from a process that has imported what they need.

A driver of its own interpreter spends ten processor seconds on imports, fifty kills ten minutes.
Run as a script, this is the process that has imported; it takes a line of JSON for each driver.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from typing import IO, Any, NoReturn, cast

_POLL_S = 0.02


class Forked:
    """A forked driver, to be used as a `subprocess.Popen`."""

    def __init__(self, nursery: Nursery, pid: int):
        self.pid = pid
        self.returncode: int | None = None
        self._nursery = nursery

    def poll(self) -> int | None:
        """Returns the exit code, negative for a signal, None while it runs."""
        if self.returncode is None:
            self.returncode = self._nursery.ask({"poll": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Waits for the end.

        Args:
            timeout: For so many seconds; None for ever.

        Returns:
            The exit code.

        Raises:
            subprocess.TimeoutExpired: It runs for longer.
        """
        end = float("inf") if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("driver", cast("float", timeout))
            time.sleep(_POLL_S)
        return cast("int", self.returncode)

    def kill(self) -> None:
        """Sends SIGKILL."""
        if self.poll() is None:
            os.kill(self.pid, 9)


class Nursery:
    """A process that has imported a script's libraries and forks drivers."""

    def __init__(self, script: str, modules: Sequence[str]):
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__, script, *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    def start(self, arguments: Sequence[str], variables: Mapping[str, str], output: str) -> Forked:
        """Starts a driver in a session of its own.

        Args:
            arguments: The script's.
            variables: Its whole environment.
            output: Where it prints to.

        Returns:
            The driver.
        """
        order = {"arguments": [*arguments], "variables": dict(variables), "output": output}
        return Forked(self, self.ask(order))

    def ask(self, order: Mapping[str, Any]) -> Any:
        """Returns the process' answer."""
        orders, answers = self._process.stdin, self._process.stdout
        assert orders is not None
        assert answers is not None
        orders.write(json.dumps(order) + "\n")
        orders.flush()
        return json.loads(answers.readline())


@cache
def nursery_of(script: str, modules: tuple[str, ...]) -> Nursery:
    """Returns the nursery of a script, the same for as long as this process lives."""
    return Nursery(script, modules)


def _serve(script: str, modules: Sequence[str]) -> None:
    sys.path.insert(0, os.path.dirname(script))
    # What a library prints while it is imported is no answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    runpy.run_path(script, run_name="__preload__")
    for name in modules:
        importlib.import_module(name)
    for line in sys.stdin:
        print(json.dumps(_answer(script, json.loads(line), answers)), file=answers, flush=True)


def _answer(script: str, order: Mapping[str, Any], answers: IO[str]) -> int | None:
    if "poll" in order:
        pid, status = os.waitpid(order["poll"], os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None
    pid = os.fork()
    if pid == 0:
        answers.close()
        _become(script, order)
    return pid


def _become(script: str, order: Mapping[str, Any]) -> NoReturn:
    """Goes on as if this process had been started with the script."""
    os.setsid()
    _redirect(order["output"])
    os.environ.clear()
    os.environ.update(order["variables"])
    tempfile.tempdir = None
    sys.argv = [script, *order["arguments"]]
    code: Any = 0
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as stopped:
        code = stopped.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    _leave(code or 0)


def _redirect(output: str) -> None:
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)


def _leave(code: int) -> NoReturn:
    """Ends as an interpreter does, so that what is registered for the end is done."""
    # `sys.exit` would run back into the loop of `_serve`.
    import atexit
    import threading

    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2:])
