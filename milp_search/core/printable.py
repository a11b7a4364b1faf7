"""Text for a terminal: what could steer it is written out."""

from __future__ import annotations

import unicodedata

# Line breaks of our own messages, and the joiners that scripts and emoji are written with.
_KEPT = frozenset("\n\t\u200c\u200d")


def printable(text: str) -> str:
    """Returns the text with every character written out that a terminal would act upon.

    Those are control characters (escape sequences, bell, backspace, carriage return, C1), formats
    such as a change of direction, and line separators; they become `\\x1b`, `\\u202e` and the like.
    """
    if text.isprintable():
        return text
    return "".join(letter if _harmless(letter) else _written_out(letter) for letter in text)


def _harmless(letter: str) -> bool:
    return letter.isprintable() or letter in _KEPT or unicodedata.category(letter) == "Zs"


def _written_out(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
