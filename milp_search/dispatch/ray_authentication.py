"""A Ray cluster that others can reach is joined with a token only.

Whoever reaches a cluster without authentication can run code on it, and read users' texts there.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path

from milp_search.dispatch.ray_tune import RayError

_REMEDY = (
    "start every node of the cluster with RAY_AUTH_MODE=token and one token, and this command with "
    "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=FILE, a file that only you can read (RAY_AUTH_"
    "TOKEN or ~/.ray/auth_token will do, too); `ray get-auth-token --generate` makes a token"
)


def require_authentication(address: str, variables: Mapping[str, str] = os.environ) -> None:
    """Refuses an address of another machine where no token goes with it.

    A driver that a cluster has started as its job joins it by `auto`, as the cluster's own.

    Args:
        address: The cluster's, as Ray writes it.
        variables: The environment.

    Raises:
        RayError: The cluster would be joined without authentication.
    """
    if address == "auto":
        address = variables.get("RAY_ADDRESS", "")
        if not address or "RAY_JOB_CONFIG_JSON_ENV_VAR" in variables:
            return
    if _is_loopback(address) or _has_token(variables):
        return
    raise RayError(
        f"expected a token for the Ray cluster at {address}, which others can reach, got none",
        remedy=_REMEDY,
    )


def _is_loopback(address: str) -> bool:
    host, colon, port = address.rpartition(":")
    host = host.strip("[]") if colon and port.isdecimal() else address
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _has_token(variables: Mapping[str, str]) -> bool:
    """Whether Ray will send a token: by its mode, and without one where there is a token."""
    if variables.get("RAY_AUTH_MODE", "token").lower() != "token":
        return False
    file = variables.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token"
    return bool(variables.get("RAY_AUTH_TOKEN", "").strip()) or Path(file).is_file()
