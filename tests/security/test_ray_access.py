"""A cluster of other machines is joined with a token, and one of our own is nobody else's."""

from __future__ import annotations

from pathlib import Path

import pytest

from milp_search.dispatch.ray_authentication import require_authentication
from milp_search.dispatch.ray_session import reachable
from milp_search.dispatch.ray_tune import RayError

REMOTE = ("10.1.2.3:6379", "head.example:6379", "[fe80::1]:6379", "0.0.0.0:6379", "local", "head")


@pytest.mark.parametrize("address", REMOTE)
@pytest.mark.parametrize("mode", [None, "token", "disabled"])
def test_another_machine_without_a_token_is_refused_with_the_remedy(
    address: str, mode: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    variables = {} if mode is None else {"RAY_AUTH_MODE": mode}
    with pytest.raises(RayError, match=r"expected a token for(.|\n)*RAY_AUTH_TOKEN_PATH=FILE"):
        require_authentication(address, variables)


@pytest.mark.parametrize("address", REMOTE)
def test_it_is_joined_with_a_token(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "token").write_text("0" * 64)
    for variables in (
        {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64},
        {"RAY_AUTH_TOKEN": "0" * 64},
        {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")},
    ):
        require_authentication(address, variables)
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("0" * 64)
    require_authentication(address, {})


def test_a_token_that_is_switched_off_is_none(tmp_path: Path) -> None:
    with pytest.raises(RayError, match="expected a token"):
        require_authentication("h:1", {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "0" * 64})


@pytest.mark.parametrize("address", ["127.0.0.1:6379", "localhost:6379", "[::1]:6379", "auto"])
def test_this_machine_needs_none(address: str) -> None:
    require_authentication(address, {"RAY_AUTH_MODE": "disabled"})


def test_auto_is_what_the_environment_names_but_for_a_job_of_the_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    variables = {"RAY_ADDRESS": "10.1.2.3:6379"}
    with pytest.raises(RayError, match=r"10\.1\.2\.3:6379"):
        require_authentication("auto", variables)
    require_authentication("auto", {**variables, "RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"})


def test_a_study_is_refused_before_anything_is_connected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("socket.create_connection", lambda *_, **__: pytest.fail("connected"))
    with pytest.raises(RayError, match="expected a token"):
        reachable("192.0.2.1:6379")
