"""Serves a model over HTTP until it is interrupted."""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path

import uvicorn
from rich.console import Console

from milp_search.adapters.base_model import EMBEDDED
from milp_search.core.errors import InputError
from milp_search.dispatch.serving.answering import Answering
from milp_search.dispatch.serving.models import Served, bare_model, front_model
from milp_search.dispatch.serving.protocol import application

KEY_VARIABLE = "MILP_SEARCH_SERVE_KEY"


class ServeError(InputError):
    """A server that cannot be had."""


def serve(
    folder: Path | None, trial: int | None, base_model: str | None, device: str | None, host: str,
    port: int, console: Console,
) -> None:  # fmt: skip
    """Serves a trial of a study, or a bare base model, until it is interrupted.

    Args:
        folder: The study's folder; None for the base model.
        trial: Which trial; None for the front's best by the first objective.
        base_model: `embedded`, which None stands for, a folder or a hub name; a study has its own.
        device: Where it computes; None is `auto`; a study has its own.
        host: The address to listen on.
        port: The port; 0 finds a free one.
        console: Where the server's address is printed.

    Raises:
        InputError: The model cannot be read, the address cannot be had, or an option has no use.
    """
    _refuse_unused(folder, trial, base_model, device)
    key = os.environ.get(KEY_VARIABLE) or None
    require_key(host, key)
    listening = _listen(host, port)
    with listening:
        served: Served = (
            bare_model(base_model or EMBEDDED, device or "auto")
            if folder is None
            else front_model(folder, trial)
        )
        answering = Answering(served.trainer)
        url = f"http://{_shown(host)}:{listening.getsockname()[1]}/v1"
        console.print(f"Serving {served.name} at {url}", markup=False, highlight=False)
        config = uvicorn.Config(
            application(served, answering, key), log_level="warning", access_log=False
        )
        uvicorn.Server(config).run([listening])
        answering.close()


def _refuse_unused(
    folder: Path | None, trial: int | None, base_model: str | None, device: str | None
) -> None:
    """Refuses options that what is served has no use for."""
    given: dict[str, object] = {"--base-model": base_model, "--device": device}
    if folder is None:
        given = {"--trial": trial}
        expected, remedy = "with a study's folder, got none", "Name the folder: serve-tiny DIR."
    else:
        expected = f"without a study's folder, got {folder}"
        remedy = "A study is served with the base model and device of its study.yaml."
    for option, value in given.items():
        if value is not None:
            raise ServeError(f"expected {option} {expected}", remedy=remedy)


def require_key(host: str, key: str | None) -> None:
    """Refuses to serve strangers.

    Args:
        host: The address to listen on.
        key: What callers have to send, if anything.

    Raises:
        ServeError: Others than this machine could ask, and need no key.
    """
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local and key is None:
        raise ServeError(
            f"expected a key for a server that others can reach at {host}, got none",
            remedy=f"Set {KEY_VARIABLE}, or serve this machine alone with --host 127.0.0.1.",
        )


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ServeError(
            f"expected to listen on {host}, port {port}, got: {reason}",
            remedy="Choose another --port, or 0 for any that is free.",
        ) from error
    return listening


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
