"""The error tree: every failure a caller may want to catch derives from `MilpSearchError`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Location:
    """A place in an input file; line and column count from 1, and None means not known."""

    file: Path | str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        parts = [str(self.file)]
        parts += [str(number) for number in (self.line, self.column) if number is not None]
        return ":".join(parts)


class MilpSearchError(Exception):
    """The root of the tree."""


class InputError(MilpSearchError, ValueError):
    """Bad input of the user: what was expected, what came, where, and what to do.

    The command line prints the message alone and exits with code 2.
    """

    def __init__(self, message: str, *, at: Location | None = None, remedy: str | None = None):
        self.message, self.at, self.remedy = message, at, remedy
        text = f"{at}: {message}" if at is not None else message
        super().__init__(f"{text}\n  {remedy}" if remedy else text)

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders; keyword arguments would be lost by the default.
        return (_rebuild_input_error, (type(self), self.message, self.at, self.remedy))


def _rebuild_input_error(
    kind: type[InputError], message: str, at: Location | None, remedy: str | None
) -> InputError:
    return kind(message, at=at, remedy=remedy)


class SpecError(InputError):
    """A study or space file that cannot be used."""


class DataError(InputError):
    """A data set that cannot be used."""


class ModelError(InputError):
    """A base model or adapter that cannot be used."""


class MeasurementError(InputError):
    """A measurement that is missing, unknown, NaN or infinite."""


class NothingScored(MeasurementError):
    """Predictions that a judge has given no score, as those of a single user may be."""


class StudyError(InputError):
    """A study folder that is missing, damaged, locked by another driver or of another study."""


class DiskFullError(StudyError):
    """A disk that takes no more, or a quota that is used up: what was to be written is not."""


class TrialError(MilpSearchError, RuntimeError):
    """A trial that failed while it ran; `kind` says how."""

    def __init__(self, kind: str, reason: str):
        self.kind, self.reason = kind, reason
        super().__init__(f"{kind}: {reason}")

    def __reduce__(self) -> tuple[object, ...]:
        return (TrialError, (self.kind, self.reason))
