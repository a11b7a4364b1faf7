"""What is looked for when a user is forgotten: the id, standing by itself, however escaped."""

from __future__ import annotations

import hashlib
import html
import mmap
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import final

_LAYERS = 3  # ours: escapes within escapes within escapes are looked through
_SURE = 8  # ours: bytes that numbers in a file of tensors do not spell by chance
_DIGEST = 12  # the digits of an owner's digest in the name of an adapter's folder

# Each kind of escape by itself: an id may look like an escape of another kind.
_BACKSLASH = re.compile(
    r"(?P<utf16>(?:\\u[0-9a-fA-F]{4})+)|\\U(?P<code>[0-9a-fA-F]{8})"
    r"|\\x(?P<hex>[0-9a-fA-F]{2})|\\(?P<one>[\"'\\/nrtbf])"
)
_URL = re.compile(r"(?:%[0-9a-fA-F]{2})+")
_HTML = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z]{2,8});")
# What follows may be a letter: only the view without the escape tells.
_ESCAPED = r"\\+(?:u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|x[0-9a-fA-F]{2})|%[0-9a-fA-F]{2}|&#?\w{1,8};"
_ONE = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}


@final
class Wanted:
    """A user's id, to be found in texts and files.

    `u1` does not stand in `u10`, nor in another user's id `u1-b`. An id that is a number counts
    where it is quoted or the name of a file, since such numbers stand everywhere. The digest of
    the id that names an adapter's folder counts as the id does. `is_number` says which kind it is.

    Args:
        user: The id.
        others: Ids of users who stay.
    """

    def __init__(self, user: str, others: Iterable[str] = ()):
        self._bytes = _encoded(user)
        self._plain = _decoded(self._bytes)
        digest = hashlib.sha256(self._bytes).hexdigest()[:_DIGEST]
        self.is_number = re.fullmatch(r"[+-]?[\d.,]+", user) is not None
        pattern = _quoted(self._plain) if self.is_number else _alone(self._plain)
        self._patterns = (pattern, _alone(digest))
        longer = sorted((_text(one) for one in others if user in one and one != user), key=len)
        self._longer = [_alone(one) for one in reversed(longer)]

    def in_text(self, text: str) -> bool:
        """Returns whether the id stands in a text."""
        return any(self._in(view) for view in _views(_text(text)))

    def in_name(self, name: str) -> bool:
        """Returns whether the id stands in the name of a file, or is it."""
        whole = self.is_number and self._plain in (_text(name), _text(Path(name).stem))
        return whole or self.in_text(name)

    def in_content(self, content: bytes) -> bool:
        """Returns whether the id stands in a file's content."""
        return any(self._in(view) for view in _views(_decoded(content)))

    def in_raw_bytes(self, content: bytes | mmap.mmap) -> bool:
        """Returns whether the id's bytes stand anywhere; ids that cannot be told so never do."""
        return len(self._bytes) >= _SURE and not self._longer and content.find(self._bytes) >= 0

    def _in(self, view: str) -> bool:
        if not any(pattern.search(view) for pattern in self._patterns):
            return False
        for longer in self._longer:
            view = longer.sub(" ", view)
        return any(pattern.search(view) for pattern in self._patterns)


def _views(content: str) -> Iterator[str]:
    """Yields the content as it stands, then with escapes taken off, layer by layer."""
    seen, outer = {content}, [content]
    yield content
    for _ in range(_LAYERS):
        inner = {
            scheme(view) for view in outer for sign, scheme in _SCHEMES.items() if sign in view
        } - seen
        yield from inner
        seen |= inner
        outer = [*inner]


def _without_backslashes(text: str) -> str:
    """Returns a text without the escapes of JSON and Python."""
    return _BACKSLASH.sub(_unescaped, text)


def _unescaped(escape: re.Match[str]) -> str:
    kind = escape.lastgroup or ""
    text = escape[kind]
    if kind == "utf16":
        units = bytes.fromhex(text.replace("\\u", ""))
        return _text(units.decode("utf-16-be", "surrogatepass"))
    if kind == "one":
        return _ONE.get(text, text)
    number = int(text, 16)
    return _text(chr(number)) if number <= 0x10FFFF else escape[0]


def _without_percents(text: str) -> str:
    """Returns a text without the escapes of URLs."""
    return _URL.sub(lambda escape: _decoded(bytes.fromhex(escape[0].replace("%", ""))), text)


def _without_entities(text: str) -> str:
    """Returns a text without the escapes of HTML."""
    return _HTML.sub(lambda escape: _text(html.unescape(escape[0])), text)


# By the sign that no escape of the kind is without: most texts have none.
_SCHEMES = {"\\": _without_backslashes, "%": _without_percents, "&": _without_entities}


def _alone(text: str) -> re.Pattern[str]:
    """Returns a pattern for a text that is not part of a longer word or number."""
    before = r"(?<!\w)" if re.match(r"\w", text) else ""
    after = rf"(?!\w|{_ESCAPED})" if re.search(r"\w\Z", text) else ""
    return re.compile(before + re.escape(text) + after)


def _quoted(text: str) -> re.Pattern[str]:
    return re.compile(r"(?<=[\"'>])" + re.escape(text) + r"(?=[\"'<])")


def _text(text: str) -> str:
    """Returns a text as `_decoded` gives it: halves of surrogate pairs as files hold them."""
    return _decoded(_encoded(text))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _decoded(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")
