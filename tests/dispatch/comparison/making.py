"""Subjects of tables: studies of a second's trials."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dispatch.small_study import small_study
from milp_search.dispatch.comparison.request import Subject, subject
from milp_search.study.spec_file import load_study_spec


def small_subject(
    folder: Path, paper: str | None = None, overrides: Mapping[str, Any] | None = None
) -> Subject:
    """Returns the small study as a subject, without Ray."""
    given = {"dispatch.local": True, **(overrides or {})}
    file = small_study(folder)
    return subject(file, load_study_spec(file, given), paper)
