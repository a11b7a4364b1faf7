"""The command `forget`: in every study of a folder, and then the search that proves it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

from rich.console import Console

from milp_search.core.errors import SpecError, StudyError
from milp_search.core.forgotten import mark_of, new_mark
from milp_search.dispatch.fence import wait_for_workers
from milp_search.dispatch.forget.study_folder import (
    Presence,
    forget_in_study,
    presence,
    remaining_users,
)
from milp_search.dispatch.forget.traces import traces
from milp_search.dispatch.forget.wanted import Wanted
from milp_search.study.lock import LOCK_NAME, DriverLock
from milp_search.study.spec_file import SPEC_NAME, read_kept
from milp_search.study.study import STORE_NAME

SOMETHING_LEFT = 1

_WAITING = "Waiting for workers of a driver that was killed."

_SHOWN = 20  # ours: places that are printed; whoever mends these asks again


def read_user(user: str | None, file: Path | None, stdin: TextIO) -> str:
    """Returns the id that is to be forgotten, from where the options say.

    A file and the standard input hold the id alone; one line end after it does not belong to it.

    Args:
        user: The id; `-` reads the standard input.
        file: A file that holds it.
        stdin: The standard input.

    Returns:
        The id.

    Raises:
        SpecError: Not exactly one source was given, it cannot be read, or the id is empty.
    """
    if (user is None) == (file is None):
        raise SpecError("expected either --user or --user-file", remedy="Give one of them.")
    text = str(user)
    if file is not None or user == "-":
        text = _read(stdin if file is None else file).removesuffix("\n")
        text = text.removesuffix("\r")
    if not text:
        raise SpecError("expected a user's id, got nothing")
    return text


def forget_user(folder: Path, user: str, console: Console, *, keep_shared: bool) -> int:
    """Forgets a user in all studies of a folder, prints what was done, and searches for the id.

    Args:
        folder: A study's folder, or that of a table or analysis, which is made of studies.
        user: The user's id.
        console: Where it is printed; the id is not.
        keep_shared: Whether what learnt from several users stays.

    Returns:
        0, or 1 where the id still stands somewhere.

    Raises:
        InputError: There is no study, a driver runs one, or none knows the user.
    """
    studies = _studies(folder)
    with ExitStack() as locks:
        for study in studies:
            locks.callback(DriverLock.acquire(study / LOCK_NAME).release)
            wait_for_workers(study, lambda: console.print(_WAITING))
        known = _knowing(studies, user)
        mark = _mark(known, user)
        others = {one for study in studies for one in remaining_users(study)} - {user}
        wanted = Wanted(user, others)
        counts: Counter[str] = Counter()
        for study in known:
            counts += forget_in_study(study, user, mark, wanted, keep_shared=keep_shared)
        _print_counts(counts, len(known), console)
        return _print_search(folder, traces(folder, wanted), user, console)


def _studies(folder: Path) -> list[Path]:
    """Returns the folders of all studies in a folder; raises StudyError if there is none.

    Those that were made without a study file hold numbers that somebody told, and no user.
    """
    stores = sorted(folder.rglob(STORE_NAME))
    found = [store.parent for store in stores if store.with_name(SPEC_NAME).exists()]
    if not found:
        raise StudyError(
            f"expected a study in {folder}, or studies below it, with {STORE_NAME} and {SPEC_NAME}",
            remedy="Check the folder's name.",
        )
    return found


def _knowing(studies: Sequence[Path], user: str) -> list[Path]:
    """Returns the studies that know or may know the user; raises StudyError if none does."""
    found = {study: presence(study, user) for study in studies}
    if set(found.values()) <= {Presence.ABSENT, Presence.UNKNOWN}:
        raise _nobody(found)
    # Where one of the folder's studies knows the user, one that cannot tell may.
    return [study for study, what in found.items() if what is not Presence.ABSENT]


def _nobody(found: Mapping[Path, Presence]) -> StudyError:
    unsure = [study for study, what in found.items() if what is Presence.UNKNOWN]
    if not unsure:
        return StudyError(
            "expected a user of the study, got an id that is none of its users'",
            remedy="Check the id, letter by letter; ids are compared as they stand in the data.",
        )
    return StudyError(
        f"expected a user of the study, got an id that stands nowhere in it; the data with which "
        f"it began, which could tell, are not there ({unsure[0]})",
        remedy="Restore the data first, and delete the user from them afterwards; or delete the "
        "folder.",
    )


def _mark(studies: Sequence[Path], user: str) -> str:
    """Returns the mark that a study has of the user, or a new one, the same for all studies."""
    kept = (mark_of(user, read_kept(study).data.forgotten) for study in studies)
    return next((mark for mark in kept if mark is not None), None) or new_mark(user)


def _print_counts(counts: Mapping[str, int], studies: int, console: Console) -> None:
    where = "the study" if studies == 1 else f"{studies} studies"
    told = [(what, count) for what, count in counts.items() if count]
    if not told:
        console.print(f"Nothing is left to be removed: the user was forgotten in {where} before.")
        return
    console.print(f"The user is forgotten in {where}:")
    width = max(len(f"{count:,}") for _, count in told)
    for what, count in told:
        console.print(f"  {count:>{width},}  {what}", markup=False, highlight=False, soft_wrap=True)


def _print_search(folder: Path, places: Sequence[str], user: str, console: Console) -> int:
    """Prints where the id still stands and returns the exit code."""
    if not places:
        files = sum(path.is_file() for path in folder.rglob("*"))
        console.print(f"Searched {files} files: nothing of the user is left.", highlight=False)
        return 0
    console.print(f"The user's id still stands in {len(places)} places:", highlight=False)
    for place in places[:_SHOWN]:
        shown = place.replace(user, "[user]")
        console.print(f"  {shown}", markup=False, highlight=False, soft_wrap=True)
    console.print("See to these by hand, then give the command again.")
    return SOMETHING_LEFT


def _read(source: Path | TextIO) -> str:
    try:
        return source.read_text(encoding="utf-8") if isinstance(source, Path) else source.read()
    except (OSError, UnicodeDecodeError) as error:
        where = source if isinstance(source, Path) else "standard input"
        raise SpecError(
            f"expected a user's id as UTF-8, got: {type(error).__name__} ({where})"
        ) from error
