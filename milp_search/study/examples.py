"""Example answers of the final tests, which are users' texts: kept only where a study asks.

```
FOLDER/examples/trial-<n>-seed-<s>.json     readable to the owner only
```

Users stand there as numbers, their places among the targets, each with a mark by which
`milp-search forget` finds who is to be forgotten.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from milp_search.core.errors import StudyError
from milp_search.core.forgotten import mark_of, new_mark
from milp_search.core.private_files import own_folder
from milp_search.core.records import Prediction
from milp_search.core.whole_file import write_whole
from milp_search.study.disk_space import until_there_is_space

EXAMPLES = "examples"


@dataclass(frozen=True)
class Example:
    """One answered query of a final test.

    Attributes:
        trial: The trial.
        seed: The test seed.
        user: The user's number, from 1.
        mark: The user's mark.
        query: What was asked.
        reference: What the user saw in truth.
        generated: What the model answered.
    """

    trial: int
    seed: int
    user: int
    mark: str
    query: str
    reference: str
    generated: str

    @property
    def texts(self) -> tuple[str, str, str]:
        """The users' words in it, and the model's."""
        return self.query, self.reference, self.generated


def chosen_examples(
    items: Sequence[Prediction], users: Sequence[str], count: int, trial: int, seed: int
) -> list[Example]:
    """Returns so many of a test's predictions: each user's first, then each one's second, and on.

    Args:
        items: The predictions.
        users: The targets, in the task's order.
        count: How many at most.
        trial: The trial.
        seed: The test seed.

    Returns:
        The examples.
    """
    by_user = {user: [item for item in items if item.user == user] for user in users}
    rounds = range(max(map(len, by_user.values()), default=0))
    order = [
        (number, own[turn])
        for turn in rounds
        for number, own in enumerate(by_user.values(), start=1)
        if turn < len(own)
    ]
    return [
        Example(
            trial,
            seed,
            number,
            new_mark(item.user),
            item.query,
            item.reference,
            item.generated or "",
        )
        for number, item in order[:count]
    ]


def write_examples(folder: Path, examples: Sequence[Example]) -> Path | None:
    """Writes the examples of one test into a study's folder; none is no file."""
    if not examples:
        return None
    first = examples[0]
    path = own_folder(folder / EXAMPLES) / f"trial-{first.trial}-seed-{first.seed}.json"
    write = partial(write_whole, path, _json(examples))
    return until_there_is_space(write, f"examples of trial {first.trial}", folder)


def read_examples(folder: Path) -> list[Example]:
    """Returns a study's examples, by trial and seed; none where it kept none.

    Raises StudyError if a file of them cannot be read.
    """
    found = [one for path in _files(folder) for one in _read(path)]
    return sorted(found, key=lambda one: (one.trial, one.seed))


def has_examples_of(folder: Path, user: str) -> bool:
    """Returns whether a study's folder holds an example of the user."""
    return any(mark_of(user, [one.mark]) for one in read_examples(folder))


def forget_in_examples(folder: Path, user: str, names: Callable[[str], bool]) -> int:
    """Removes the user's examples, and others' that name the user; returns how many.

    Args:
        folder: A study's folder.
        user: The user.
        names: Whether a text names the user.

    Returns:
        The number of examples removed.
    """
    removed = 0
    for path in _files(folder):
        before = _read(path)
        after = [
            one for one in before if not (mark_of(user, [one.mark]) or any(map(names, one.texts)))
        ]
        removed += len(before) - len(after)
        if not after:
            path.unlink()
        elif after != before:
            write_whole(path, _json(after))
    return removed


def _files(folder: Path) -> list[Path]:
    return sorted((folder / EXAMPLES).glob("*.json"))


def _read(path: Path) -> list[Example]:
    try:
        return [_example(values) for values in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise StudyError(
            f"expected examples as a final test writes them in {path}, got: {type(error).__name__}",
            remedy="Remove the file; the report then goes without.",
        ) from error


def _example(values: dict[str, Any]) -> Example:
    """Returns an example; raises TypeError if a value is missing or of another kind."""
    one = Example(**values)
    numbers, texts = (one.trial, one.seed, one.user), (one.mark, *one.texts)
    if {*map(type, numbers)} != {int} or {*map(type, texts)} != {str}:
        raise TypeError
    return one


def _json(examples: Iterable[Example]) -> str:
    return json.dumps([asdict(one) for one in examples], indent=1) + "\n"
