"""Takes a user out of a folder of stacks that `save_stacks` wrote."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from milp_search.adapters.export import MANIFEST
from milp_search.core.private_files import refuse_link
from milp_search.core.whole_file import write_whole

Stacks = Mapping[str, Sequence[str]]
"""Per user the names of the stack's adapters, bottom first."""

Reach = Literal["own", "stack", "all"]
"""What goes with a user: the adapters that serve nobody else, all that the user's text went into
as the stacks tell, or every adapter, where stacks do not tell it."""


@dataclass(frozen=True)
class Taken:
    """What was taken out of a folder.

    Attributes:
        adapters: Folders of adapters that were removed.
        others: Other users who lost their stack with them.
        kept: Adapters that learnt from the user and others, and were kept.
    """

    adapters: int = 0
    others: int = 0
    kept: int = 0


def users_of(folder: Path) -> Stacks:
    """Returns the stacks of a folder's users, none where it has no manifest that can be read."""
    users = _manifest(folder).get("users", {})
    return users if isinstance(users, dict) else {}


def method_of(folder: Path) -> str | None:
    """Returns the method of a folder's plan, None where the manifest does not tell."""
    plan = _manifest(folder).get("plan")
    return plan.get("method") if isinstance(plan, dict) else None


def forget_in_stacks(folder: Path, user: str, reach: Reach) -> Taken:
    """Takes a user's stack out of a folder, and with it what the reach says.

    A stack of which one adapter goes, goes whole: the others were trained to lie on it. The
    manifest is written first, and adapters that it does not name go then, so that a second call
    ends what a first one began. A folder without a manifest that can be read is removed.

    Args:
        folder: A trial's adapters.
        user: The user.
        reach: What goes.

    Returns:
        What was taken out.

    Raises:
        StudyError: The folder is a link, and what would be removed lies elsewhere.
    """
    refuse_link(folder)
    if not _manifest(folder):
        shutil.rmtree(folder)
        return Taken(adapters=1)
    before = users_of(folder)
    after = stacks_without(before, user, reach)
    if after != before:
        text = json.dumps({**_manifest(folder), "users": after}, indent=1, sort_keys=True)
        write_whole(folder / MANIFEST, text + "\n")
    named = {name for stack in after.values() for name in stack}
    shared = named & set(before.get(user, ()))
    gone = [path for path in folder.iterdir() if path.is_dir() and path.name not in named]
    for path in gone:
        shutil.rmtree(path)
    return Taken(len(gone), len(set(before) - set(after) - {user}), len(shared))


def stacks_without(stacks: Stacks, user: str, reach: Reach) -> dict[str, list[str]]:
    """Returns the stacks that stay when a user goes, at most by their own names.

    Args:
        stacks: All users' stacks.
        user: The user.
        reach: What goes.

    Returns:
        The stacks of those who keep theirs; who never had an adapter keeps the empty stack.
    """
    touched = {
        name
        for owner, stack in stacks.items()
        for name in stack
        if reach == "all" or (reach == "stack" and owner == user)
    }
    return {
        other: [*stack]
        for other, stack in stacks.items()
        if other != user and not touched & set(stack)
    }


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}
