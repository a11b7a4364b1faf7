"""The texts that a chat model is asked with: files that a user can read and replace.

Data is fenced: it stands between marks, and nothing in it can open or close one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template

from milp_search.core.errors import InputError

# Prompt to what may stand in it; all but the values of the second set has to.
PROMPTS: dict[str, frozenset[str]] = {
    "personal_memory": frozenset({"lines", "notes", "entries"}),
    "group_memory": frozenset({"lines", "knowledge", "members"}),
    "answer": frozenset({"form", "personal", "entries", "query"}),
    "mediator": frozenset({"form", "personal", "entries", "knowledge", "query"}),
    "personal": frozenset({"notes"}),
    "entries": frozenset({"entries"}),
    "entry": frozenset({"query", "response"}),
    "form_choice": frozenset({"choices"}),
    "form_text": frozenset(),
    "judge": frozenset({"content", "query", "response"}),
    "judge_swapped": frozenset({"content", "query", "response"}),
}
_MAY_MISS = frozenset({"form", "lines"})

# What is no letter may stand within: a reader looks past spaces, slashes and invisible signs.
_MARK = re.compile(
    r"<(?=\W{0,9}(?:notes|entries|entry|knowledge|members|member|query|content|response)\b)",
    re.IGNORECASE,
)
_LARGEST = 64 * 1024


class PromptError(InputError):
    """A prompt file that cannot be used."""


@dataclass(frozen=True)
class Prompts:
    """All prompts of a study, by name."""

    texts: Mapping[str, str]

    def __hash__(self) -> int:
        return hash(tuple(sorted(self.texts.items())))

    def fingerprint(self) -> str:
        """Returns 16 hex digits, equal for equal prompts and only for them."""
        text = json.dumps(dict(self.texts), sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def filled(self, name: str, **values: str) -> str:
        """Returns a prompt with its values; data among them has been `fenced` before."""
        return Template(self.texts[name]).substitute(values)


def fenced(text: str) -> str:
    """Returns data so that it cannot open or close a mark; it reads the same to a person."""
    return _MARK.sub("\u2039", text)


def shipped_folder() -> Path:
    """Returns where the prompts lie that come with the package."""
    return Path(__file__).parent / "prompts"


@cache
def shipped_prompts() -> Prompts:
    """Returns the prompts that come with the package: ours in wording, LoGo's in function."""
    folder = shipped_folder()
    texts = {
        name: (folder / f"{name}.txt").read_text(encoding="utf-8").removesuffix("\n")
        for name in PROMPTS
    }
    return Prompts(texts)


def load_prompts(folder: Path | None) -> Prompts:
    """Reads prompts.

    Args:
        folder: Where files of one's own lie, `NAME.txt`; what is missing there is ours. None is
            all ours.

    Returns:
        The prompts.

    Raises:
        PromptError: There is no such folder, or a file in it is no prompt.
    """
    if folder is None:
        return shipped_prompts()
    if not folder.is_dir():
        raise PromptError(f"expected a folder of prompts, found none: {folder}")
    own = {path.stem: _read(path) for path in sorted(folder.glob("*.txt"))}
    return Prompts({**shipped_prompts().texts, **own})


def _read(path: Path) -> str:
    if path.stem not in PROMPTS:
        raise PromptError(
            f"expected a prompt's name, got {path.name}",
            remedy=f"There are {', '.join(f'{name}.txt' for name in PROMPTS)}.",
        )
    try:
        text = path.read_bytes()[: _LARGEST + 1].decode("utf-8")
    except (OSError, ValueError) as error:
        raise PromptError(f"expected a text in UTF-8, got: {error} ({path})") from error
    if len(text) > _LARGEST:
        raise PromptError(f"expected at most {_LARGEST} characters, got more: {path}")
    _check(path, Template(text))
    return text.removesuffix("\n")


def _check(path: Path, template: Template) -> None:
    known = PROMPTS[path.stem]
    if not template.is_valid():
        raise PromptError(f"expected every $ to name a value or to be doubled: {path}")
    found = set(template.get_identifiers())
    for wrong, what in (
        (found - known, "no value of this name"), (known - _MAY_MISS - found, "it is missing")
    ):  # fmt: skip
        if wrong:
            raise PromptError(
                f"expected the values {', '.join(f'${name}' for name in sorted(known))} in "
                f"{path}; ${min(wrong)}: {what}"
            )
