"""The LaMP tasks: how a profile item becomes a question with its answer.

A question's `input` is an instruction and a text; a profile item holds text and answer without
the instruction. So the instruction is taken from the question (all up to `marker`) and put before
the text of each profile item: training then sees the very form that is tested.

Source: LaMP (Salemi et al. 2024), Appendix; the tasks after LaMP_5 are stand-ins of the same form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from milp_search.core.errors import DataError, Location
from milp_search.core.records import TaskKind
from milp_search.data.fields import as_object, as_text


@dataclass(frozen=True)
class LampTask:
    """One task's layout.

    Attributes:
        opening: How the instruction begins; recognises the task of a file that does not name it.
        marker: How the instruction ends; the text follows.
        text: The profile item's key of the text.
        response: The profile item's key of the answer.
        kind: What an answer is.
        labels: The labels where the instruction does not list them in brackets.
    """

    opening: str
    marker: str
    text: str = "text"
    response: str = "title"
    kind: TaskKind = "text"
    labels: tuple[str, ...] = ()


# LaMP's own lists, in its order.
_CATEGORIES = (
    "travel", "education", "parents", "style & beauty", "entertainment", "food & drink",
    "science & technology", "business", "sports", "healthy living", "women", "politics", "crime",
    "culture & arts", "religion",
)  # fmt: skip
_TAGS = (
    "sci-fi", "based on a book", "comedy", "action", "twist ending", "dystopia", "dark comedy",
    "classic", "psychology", "fantasy", "romance", "thought-provoking", "social commentary",
    "violence", "true story",
)  # fmt: skip

LAMP_TASKS: dict[str, LampTask] = {
    "LaMP_2N": LampTask(
        "Which category does this article relate to", "article: ", "text", "category",
        "classification", _CATEGORIES,
    ),
    "LaMP_2M": LampTask(
        "Which tag does this movie relate to", "description: ", "description", "tag",
        "classification", _TAGS,
    ),
    "LaMP_3": LampTask(
        "What is the score of the following review", "review: ", "text", "score", "rating"
    ),
    "LaMP_4": LampTask("Generate a headline for the following article", "article: "),
    "LaMP_5": LampTask("Generate a title for the following abstract", "paper: ", "abstract"),
    "MedDia": LampTask("Reply as the doctor to the following patient", "message: "),
    "SE_answer": LampTask("Write an answer to the following question", "question: "),
    "ProductQA": LampTask("Answer the following question about a product", "product: "),
    "ML_rating": LampTask("What is the score of the following film", "film: ", kind="rating"),
    "git_subject": LampTask("Write the subject line of a commit", "files: "),
}  # fmt: skip


def canonical_task(name: str) -> str | None:
    """Returns the listed name of a LaMP task (`lamp-2n` is `LaMP_2N`), or None."""
    names = {listed.casefold(): listed for listed in LAMP_TASKS}
    return names.get(name.replace("-", "_").casefold())


def recognise_task(question: str, at: Location) -> str:
    """Returns the name of the task whose instruction opens a question.

    Raises DataError if it is none of them.
    """
    for name, task in LAMP_TASKS.items():
        if question.startswith(task.opening):
            return name
    raise DataError(
        f"expected the instruction of a LaMP task ({', '.join(LAMP_TASKS)}), got another one",
        at=at,
        remedy="Name the task with `data.task`.",
    )


def instruction(task: LampTask, question: str, at: Location) -> str:
    """Returns the question's instruction, its last space included.

    Raises DataError if the question has no such instruction.
    """
    end = question.find(task.marker)
    # The stripped question of an empty text has lost the marker's last space.
    if end < 0 and not question.endswith(task.marker.rstrip()):
        raise DataError(
            f"expected an input like '{task.opening} ... {task.marker}TEXT', got another one",
            at=at,
            remedy="Check `data.task`.",
        )
    return question[: end + len(task.marker)] if end >= 0 else f"{question} "


def labels_of(task: LampTask, question: str) -> tuple[str, ...]:
    """Returns the labels: the bracketed list in the instruction, else the task's own."""
    listed, closed, _ = question.split(task.marker)[0].partition("[")[2].partition("]")
    if task.kind != "classification" or not (listed and closed):
        return task.labels
    return tuple(label.strip() for label in listed.split(","))


def profile_pair(task: LampTask, prefix: str, item: Any, at: Location) -> tuple[str, str]:
    """Returns a profile item's query and response; an empty text gives an empty query.

    Raises DataError if the item lacks a key or holds something else than text.
    """
    record = as_object(item, at)
    text = as_text(record, task.text, at)
    return (prefix + text if text else ""), as_text(record, task.response, at)
