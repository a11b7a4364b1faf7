"""Marks tell their own user and nobody else, and nothing of the id without it."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from milp_search.core.forgotten import is_mark, mark_of, new_mark, salt_of

IDS = ["u1", "u10", "", "Zoë", "a'b\"c", "*.?[x]", "\ud800", "a\nb", "<b>", "%41"]


@pytest.mark.parametrize("user", IDS)
def test_a_mark_is_its_own_users_and_no_others(user: str) -> None:
    mark = new_mark(user)
    assert is_mark(mark)
    assert [other for other in IDS if mark_of(other, [mark])] == [user]


def test_the_mark_of_a_user_among_several_is_found() -> None:
    marks = [new_mark(user) for user in IDS]
    assert mark_of("u10", marks) == marks[1]
    assert mark_of("nobody", marks) is None


def test_a_mark_is_an_hmac_under_a_salt_of_its_own() -> None:
    mark = new_mark("u1")
    salt, digest = mark.split(":")
    assert salt_of(mark) == salt
    assert digest == hmac.new(salt.encode(), b"u1", hashlib.sha256).hexdigest()
    assert salt_of(new_mark("u1")) != salt


@pytest.mark.parametrize("text", ["", "u1", "0" * 32, "0" * 32 + ":" + "g" * 64, "A" * 32 + ":"])
def test_other_texts_are_no_marks(text: str) -> None:
    assert not is_mark(text)
