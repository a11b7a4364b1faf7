"""An id is found however it is escaped, and not where it is part of something longer."""

from __future__ import annotations

import hashlib
import html
import json
from urllib.parse import quote

import pytest

from milp_search.dispatch.forget.wanted import Wanted

IDS = [
    "u1", "Zoë", "a'b\"c", "*.?[x](y)|$^", "back\\slash", "<b>&amp;</b>", "100%41", "two words",
    "日本", "\U0001f600", "\ud800", "-dash-", "x\ty", "\\u0041",
]  # fmt: skip


@pytest.mark.parametrize("user", IDS)
def test_it_is_found_plain_and_escaped_as_json_url_html_and_python(user: str) -> None:
    plain = user.encode("utf-8", "surrogatepass")
    forms = {
        "plain": plain,
        "JSON": json.dumps({"user": user}).encode(),
        "JSON in JSON": json.dumps(json.dumps([user])).encode(),
        "URL": quote(user, safe="", errors="surrogatepass").encode(),
        "every byte of a URL": "".join(f"%{byte:02x}" for byte in plain).encode(),
        "HTML": html.escape(user).encode("utf-8", "surrogatepass"),
        "Python": ascii(user).encode(),
        "a URL in JSON": json.dumps(quote(user, safe="", errors="surrogatepass")).encode(),
        "after a line end in JSON": json.dumps(f"said\n{user}\nso").encode(),
        "between quotes of other scripts": b"\xc2\xab" + plain + b"\xe2\x80\xa6",
    }
    wanted = Wanted(user)
    assert [name for name, content in forms.items() if not wanted.in_content(content)] == []


@pytest.mark.parametrize("text", ["u10", "xu1", "u1é", "éu1", "u1_b", "U1", "u\n1", "u%2010"])
def test_a_part_of_a_longer_word_is_not_it(text: str) -> None:
    for content in (text.encode(), json.dumps(text).encode(), quote(text).encode()):
        assert not Wanted("u1").in_content(content)


def test_a_part_of_another_users_id_is_not_it_where_that_user_is_known() -> None:
    content = json.dumps({"users": ["u1-b", "u1.c"]}).encode()
    assert Wanted("u1").in_content(content)
    assert not Wanted("u1", ["u1-b", "u1.c", "x"]).in_content(content)
    assert Wanted("u1", ["u1-b"]).in_content(content)
    assert Wanted("u1", ["u1-b", "u1.c"]).in_content(content + b" u1")


def test_a_number_counts_where_it_is_quoted_or_a_files_name() -> None:
    wanted = Wanted("110")
    assert wanted.in_content(b'{"110": []}')
    assert wanted.in_content(b"user: '110'")
    assert wanted.in_content(b"<td>110</td>")
    assert not wanted.in_content(b'{"rank": 110, "loss": 0.110, "name": "110m", "x": "2.110"}')
    assert [wanted.in_name(name) for name in ("110", "110.json", "trial-110", "1100")] == [
        True, True, False, False,
    ]  # fmt: skip


def test_the_digest_that_names_an_adapter_of_the_user_is_a_trace() -> None:
    digest = hashlib.sha256(b"u1").hexdigest()[:12]
    assert Wanted("u1").in_name(f"local-{digest}")
    assert not Wanted("u2").in_name(f"local-{digest}")


def test_raw_bytes_tell_of_ids_that_chance_does_not_spell() -> None:
    assert Wanted("someone-long").in_raw_bytes(b"\x00Qsomeone-longQ\x00")
    assert not Wanted("someone-else").in_raw_bytes(b"\x00Qsomeone-longQ\x00")
    assert not Wanted("u1").in_raw_bytes(b"u1")
