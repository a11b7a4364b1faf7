"""Why trials fail, in a form that is safe to keep and to show."""

from __future__ import annotations

from milp_search.core.errors import StudyError
from milp_search.core.trial import Failure

FAILURE_KINDS = (
    "exception",
    "out_of_memory",
    "non_finite",
    "lost_worker",
    "lost_driver",
    "hang",
    "refused",
    "told",
)

# ours: enough for an exception's message; the traceback is in the log.
MAX_REASON = 500


def checked_failure(kind: str, reason: object) -> Failure:
    """Returns a failure.

    Args:
        kind: One of `FAILURE_KINDS`.
        reason: Why.

    Returns:
        The failure, its reason one line.

    Raises:
        StudyError: The kind is unknown.
    """
    if kind not in FAILURE_KINDS:
        raise StudyError(f"expected a failure of kind {', '.join(FAILURE_KINDS)}; got {kind!r}")
    return Failure(kind, one_line(reason))


def one_line(reason: object) -> str:
    """Returns a reason as one line without control characters, which could steer a terminal."""
    # An exception is as good as its message.
    printable = "".join(letter if letter.isprintable() else " " for letter in str(reason))
    return " ".join(printable.split())[:MAX_REASON]
