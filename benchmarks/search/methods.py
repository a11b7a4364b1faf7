"""The peers by name."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import cast

from method import Method, Task

from milp_search.core.errors import InputError


@dataclass(frozen=True)
class Peer:
    """Where a peer is.

    Attributes:
        module: The module beside this one.
        function: Its maker, of a task and a seed.
        packages: The distributions that its results depend on.
        batch: How many arms it is asked for at once.
    """

    module: str
    function: str
    packages: tuple[str, ...]
    batch: int = 1


PEERS = {
    "random": Peer("peer_baselines", "random_search", ("numpy",)),
    "sobol": Peer("peer_baselines", "sobol", ("scipy",)),
    "optuna_tpe": Peer("peer_optuna", "tpe", ("optuna",)),
    "optuna_tpe_multivariate": Peer("peer_optuna", "tpe_multivariate", ("optuna",)),
    "optuna_gp": Peer("peer_optuna", "gp", ("optuna", "torch")),
    "optuna_nsga2": Peer("peer_optuna", "nsga2", ("optuna",)),
    "smac_parego": Peer("peer_smac", "parego", ("smac",)),
    "ax_default": Peer("peer_ax", "ax_default", ("ax-platform", "botorch", "torch")),
    "botorch_autopeft": Peer("peer_autopeft", "autopeft", ("botorch", "numpyro", "torch"), batch=4),
}


def make_peer(name: str, task: Task, seed: int) -> Method:
    """Returns a peer.

    Args:
        name: One of `PEERS`.
        task: What it knows of the problem.
        seed: Of everything that it draws.

    Returns:
        The method.

    Raises:
        InputError: Its library is not installed.
    """
    peer = PEERS[name]
    try:
        module = import_module(peer.module)
    except ModuleNotFoundError as error:
        raise InputError(
            f"expected the library of {name}, got: {error}", remedy="pip install -e '.[peers]'"
        ) from None
    return cast(Method, getattr(module, peer.function)(task, seed))


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Returns the installed versions of distributions."""
    return {package: version(package) for package in packages}
