"""Forgets a user in the folder of one study."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from milp_search.core.errors import InputError
from milp_search.core.forgotten import mark_of, salt_of
from milp_search.core.methods import METHODS
from milp_search.core.private_files import refuse_link
from milp_search.core.records import PersonalizationTask
from milp_search.core.whole_file import write_whole
from milp_search.data.load import load_task
from milp_search.dispatch.answers import shared_answers
from milp_search.dispatch.folders import (
    ADAPTERS,
    CACHE,
    CHECKPOINTS,
    LOG_NAME,
    RESPONSES,
    RESULTS,
)
from milp_search.dispatch.forget.stacks import Reach, forget_in_stacks, method_of, users_of
from milp_search.dispatch.forget.wanted import Wanted
from milp_search.study.events import Forgotten
from milp_search.study.examples import EXAMPLES, forget_in_examples, has_examples_of
from milp_search.study.export import TRIALS_NAME, export
from milp_search.study.forgetting import LEFT_OUT, forget_in_store
from milp_search.study.report import REPORT_NAME, write_report
from milp_search.study.spec_file import add_mark, read_kept
from milp_search.study.study import STORE_NAME, Study

# As `write_whole` names a file before it is in its place.
_UNFINISHED = re.compile(r"\..+\.[a-z0-9_]{8}")

Counts = Counter[str]
"""What was done, in words, to how often."""


class Presence(StrEnum):
    """What a user is to a study; `unknown` where only the data could tell and are not there."""

    TARGET = "target"
    OTHER = "other"
    FORGOTTEN = "forgotten"
    ABSENT = "absent"
    UNKNOWN = "unknown"


def presence(folder: Path, user: str) -> Presence:
    """Returns what a user is to the study in a folder, by what it keeps and by its data."""
    if mark_of(user, read_kept(folder).data.forgotten) is not None:
        return Presence.FORGOTTEN
    if any(user in users_of(trial) for trial in _trials(folder)) or has_examples_of(folder, user):
        return Presence.TARGET
    task = whole_task(folder)
    if task is None:
        return Presence.UNKNOWN
    if user in {one.user for one in task.targets}:
        return Presence.TARGET
    return Presence.OTHER if user in {one.user for one in task.others} else Presence.ABSENT


def whole_task(folder: Path) -> PersonalizationTask | None:
    """Returns the task as the study began with it; None where the data are others or not there."""
    spec = read_kept(folder)
    try:
        task = load_task(replace(spec.data, forgotten=()))
    except InputError:
        return None
    same = spec.resolved is None or spec.resolved.data_fingerprint == task.fingerprint
    return task if same else None


def remaining_users(folder: Path) -> set[str]:
    """Returns the ids of all users in a study's manifests."""
    return {user for trial in _trials(folder) for user in users_of(trial)}


def forget_in_study(
    folder: Path, user: str, mark: str, wanted: Wanted, *, keep_shared: bool
) -> Counts:
    """Removes what a study's folder holds of a user; the driver's lock is held.

    The mark is written first: from then on nothing is trained on the user. The event comes last,
    when all else is done, so that a call that was killed is made good by the next one.

    Args:
        folder: The study's folder.
        user: The user, whom the study knows.
        mark: The user's mark.
        wanted: The user's id, to be found in texts.
        keep_shared: Whether what learnt from several users stays.

    Returns:
        What was done, and how often.

    Raises:
        InputError: A file cannot be read or written.
    """
    for name in (ADAPTERS, RESULTS, CACHE, CHECKPOINTS, RESPONSES, EXAMPLES):
        refuse_link(folder / name)
    add_mark(folder, mark)
    counts: Counts = Counter()
    _remove_unfinished(folder)
    before = _forgotten(folder).get(salt_of(mark))
    if before is None or (before.kept_shared and not keep_shared):
        learnt = _stages_that_learnt(folder, user)
        if keep_shared:
            counts["base stages kept, which learnt from this user and others"] = len(learnt)
        else:
            counts["base stages removed, which learnt from this user and others"] = len(learnt)
            _remove_all(learnt)
        # Which of the adapters that were kept learnt from the user, nothing tells any more.
        based = bool(learnt) or before is not None
        counts += _forget_in_adapters(folder, user, based, keep_shared)
        counts["files of caches, checkpoints and kept answers removed"] = _clear(folder)
        counts["traces of workers that were killed removed"] = _remove_watches(folder)
        counts["result files without values of single users"] = _forget_in_results(folder, wanted)
        counts["lines of the log left out"] = _forget_in_log(folder, wanted)
        counts["example answers removed"] = forget_in_examples(folder, user, wanted.in_text)
        counts += _forget_in_events(folder, wanted, Forgotten(salt_of(mark), keep_shared))
    _write_outputs(folder)
    return counts


def _forgotten(folder: Path) -> dict[str, Forgotten]:
    """Returns how users were forgotten before, by the salts of their marks."""
    with Study.open(folder, read_only=True) as study:
        payloads = [event.payload for event in study.events()]
    return {one.mark: one for one in payloads if isinstance(one, Forgotten)}


def _stages_that_learnt(folder: Path, user: str) -> list[Path]:
    """Returns the base stages that learnt from the user, all where the data cannot tell."""
    task = whole_task(folder)
    learnt = task is None or user in {other.user for other in task.others}
    return sorted(folder.glob("base-*")) if learnt else []


def _forget_in_adapters(folder: Path, user: str, based: bool, keep_shared: bool) -> Counts:
    """Takes the user out of all trials' adapters, which are `based` on what learnt from them."""
    counts: Counts = Counter()
    for trial in _trials(folder):
        reach: Reach = "own" if keep_shared else "all" if based or _mixed(trial) else "stack"
        taken = forget_in_stacks(trial, user, reach)
        counts["adapters removed"] += taken.adapters
        counts["other users' stacks removed, which stood on or were made of these"] += taken.others
        counts["adapters kept, which learnt from this user and others"] += taken.kept
    return counts


def _mixed(trial: Path) -> bool:
    """Whether a user's own adapter holds what others' texts taught, as far as is known."""
    traits = METHODS.get(method_of(trial) or "")
    return traits is None or traits.mixed


def _clear(folder: Path) -> int:
    """Removes what holds users' content that cannot be told by user.

    Of a folder of answers that other studies share only the answers, wherever it lies.
    """
    places = [folder / CACHE, folder / CHECKPOINTS, folder / RESPONSES]
    files = sum(path.is_file() for place in places for path in place.rglob("*"))
    _remove_all(places)
    return files + sum(answers.clear() for answers in shared_answers(read_kept(folder)))


def _remove_watches(folder: Path) -> int:
    """Removes the watch files of workers that were killed; the stacks in them may quote data."""
    watches = list((folder / RESULTS).glob("*.watch"))
    for watch in watches:
        watch.unlink()
    return len(watches)


def _forget_in_results(folder: Path, wanted: Wanted) -> int:
    """Takes values of single users out of result files; those half written are removed."""
    changed = 0
    for path in sorted((folder / RESULTS).glob("*.json")):
        before = path.read_text(encoding="utf-8", errors="replace")
        after = _without_values(before, wanted)
        if after is None:
            path.unlink()
        elif after != before:
            write_whole(path, after)
        changed += after != before
    return changed


def _without_values(text: str, wanted: Wanted) -> str | None:
    """Returns a result without values of single users, None where it is none."""
    try:
        content: dict[str, Any] = json.loads(text)
        outcome = content["outcome"]
        for value in outcome["measurements"].values():
            value["per_user"] = []
        if outcome["failure"] and wanted.in_text(outcome["failure"]["reason"]):
            outcome["failure"]["reason"] = LEFT_OUT
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    return json.dumps(content) + "\n"


def _forget_in_log(folder: Path, wanted: Wanted) -> int:
    """Leaves out the lines of the log that name the user."""
    path = folder / LOG_NAME
    if not path.exists():
        return 0
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines(keepends=True)
    named = [wanted.in_text(line) for line in lines]
    if any(named):
        kept = [f"({LEFT_OUT})\n" if out else line for line, out in zip(lines, named, strict=True)]
        write_whole(path, "".join(kept).encode("utf-8", "replace").decode())
    return sum(named)


def _forget_in_events(folder: Path, wanted: Wanted, event: Forgotten) -> Counts:
    left_out = forget_in_store(folder / STORE_NAME, wanted.in_text, event)
    return Counter(
        {
            "values of single users, of all of them, left out of the store": left_out.values,
            "means kept that are over one user only, whoever it is": left_out.means_of_one,
        }
    )


def _write_outputs(folder: Path) -> None:
    """Writes anew what was written of the study."""
    with Study.open(folder, read_only=True) as study:
        if (folder / TRIALS_NAME).exists():
            export(study)
        if (folder / REPORT_NAME).exists():
            write_report(study)


def _remove_unfinished(folder: Path) -> None:
    """Removes what killed processes left of files and folders that they were writing."""
    _remove_all([*folder.glob("base-*.partial"), *(folder / ADAPTERS).glob("*.partial")])
    # Stores half written, and those that were put aside damaged.
    for name in (f"{STORE_NAME}.new*", f"{STORE_NAME}.damaged-*"):
        for path in folder.glob(name):
            path.unlink()
    for path in folder.rglob(".*"):
        if path.is_file() and _UNFINISHED.fullmatch(path.name):
            path.unlink()


def _remove_all(folders: Iterable[Path]) -> None:
    """Removes folders that are there; of a link the link, and not what it leads to."""
    for one in folders:
        if one.is_symlink():
            one.unlink()
        elif one.exists():
            shutil.rmtree(one)


def _trials(folder: Path) -> list[Path]:
    return sorted((folder / ADAPTERS).glob("trial-*"))
