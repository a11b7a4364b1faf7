"""What a chat model notes of each person, and of each community over time.

Source: LoGo, appendix C.1 and C.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from milp_search.core.chat import ChatModel, ChatReply, ChatRequest, Message, counted_tokens
from milp_search.core.records import Interaction, UserTask
from milp_search.personalize.chat_prompts import Prompts, fenced
from milp_search.personalize.communities import pooled_order

# ours: so many characters of entries or notes go into one prompt; more are taken in several steps.
PROMPT_CHARACTERS = 12_000
# ours: a line of notes has about so many tokens.
_LINE_TOKENS = 40


@dataclass
class Tally:
    """What was asked for; answers that were kept from before count too."""

    replies: list[ChatReply] = field(default_factory=list)

    def add(self, replies: Sequence[ChatReply]) -> None:
        """Adds what these took."""
        self.replies += replies

    @property
    def tokens(self) -> int | None:
        """By the server's count; None where it does not count."""
        return counted_tokens(self.replies)


@dataclass(frozen=True)
class Memories:
    """Notes on people and groups, as texts.

    Attributes:
        personal: Per user; empty where there is none.
        group: Per user the knowledge on their community; empty where there is none.
        tokens: What it took to write them, None where the server does not count.
    """

    personal: dict[str, str] = field(default_factory=dict)
    group: dict[str, str] = field(default_factory=dict)
    tokens: int | None = 0


def personal_memories(
    users: Sequence[UserTask], lines: int, model: ChatModel, prompts: Prompts
) -> Memories:
    """Returns notes on each user, from the training history alone, oldest entries first."""
    notes, tally = {user.user: "" for user in users}, Tally()
    entries = {user.user: list(user.history) for user in users}
    _update_notes(notes, entries, lines, model, prompts, tally)
    return Memories(personal=notes, tokens=tally.tokens)


def evolving_memories(
    groups: Sequence[Sequence[UserTask]],
    periods: int,
    lines: int,
    model: ChatModel,
    prompts: Prompts,
) -> Memories:
    """Returns notes on each user and knowledge on each community, after T periods of time.

    In each period the notes of the users who wrote in it are updated with what they wrote, and
    the community's knowledge with these notes. Nothing of a user reaches another but through
    their own community's knowledge.

    Args:
        groups: The communities.
        periods: LoGo's T: a community's pooled interactions are cut in so many parts, by time.
        lines: The most lines of notes and of knowledge.
        model: Writes them.
        prompts: What it is asked with.

    Returns:
        The memories.
    """
    users = [user for group in groups for user in group]
    notes, tally = {user.user: "" for user in users}, Tally()
    knowledge = ["" for _ in groups]
    cut = [_periods_by_user(group, periods) for group in groups]
    for period in range(periods):
        written = [parts[period] if period < len(parts) else {} for parts in cut]
        entries = {user: items for part in written for user, items in part.items()}
        _update_notes(notes, entries, lines, model, prompts, tally)
        members = [[notes[user] for user in part] for part in written]
        knowledge = _updated_knowledge(knowledge, members, lines, model, prompts, tally)
    group_of = {
        user.user: text for group, text in zip(groups, knowledge, strict=True) for user in group
    }
    return Memories(notes, group_of, tally.tokens)


def entry_texts(items: Sequence[Interaction], prompts: Prompts) -> list[str]:
    """Returns entries as they stand in prompts; one too long for a prompt has its texts cut."""
    room = PROMPT_CHARACTERS - len(prompts.filled("entry", query="", response=""))
    texts = []
    for item in items:
        query, response = fenced(item.query), fenced(item.response)
        query = query[: max(room - len(response), room // 2)]
        texts.append(prompts.filled("entry", query=query, response=response[: room - len(query)]))
    return texts


def in_chunks(texts: Sequence[str], most: int = PROMPT_CHARACTERS) -> Iterator[str]:
    """Yields texts joined, in order, in parts of at most so many characters.

    A single text that is longer is cut at its end.
    """
    chunk: list[str] = []
    for text in (text[:most] for text in texts):
        if chunk and sum(map(len, chunk)) + len(text) > most:
            yield "\n".join(chunk)
            chunk = []
        chunk.append(text)
    if chunk:
        yield "\n".join(chunk)


def note_request(prompt: str, lines: int) -> ChatRequest:
    """Returns the question for so many lines of notes."""
    return ChatRequest((Message("user", prompt),), max_tokens=_LINE_TOKENS * lines)


def _update_notes(
    notes: dict[str, str],
    entries: dict[str, list[Interaction]],
    lines: int,
    model: ChatModel,
    prompts: Prompts,
    tally: Tally,
) -> None:
    """Updates users' notes in place; all users' next chunks are one call of the model."""
    chunks = {user: [*in_chunks(entry_texts(items, prompts))] for user, items in entries.items()}
    for step in range(max(map(len, chunks.values()), default=0)):
        asked = {user: own[step] for user, own in chunks.items() if step < len(own)}
        replies = model.ask([
            note_request(
                prompts.filled(
                    "personal_memory", lines=str(lines), notes=fenced(notes[user]), entries=text
                ),
                lines,
            )
            for user, text in asked.items()
        ])  # fmt: skip
        tally.add(replies)
        notes |= {user: reply.text.strip() for user, reply in zip(asked, replies, strict=True)}


def _updated_knowledge(
    knowledge: Sequence[str],
    members: Sequence[Sequence[str]],
    lines: int,
    model: ChatModel,
    prompts: Prompts,
    tally: Tally,
) -> list[str]:
    """Returns each community's knowledge after its members' notes."""
    found = list(knowledge)
    chunks = [
        [*in_chunks([f"<member>\n{fenced(text)}\n</member>" for text in own])] for own in members
    ]
    for step in range(max(map(len, chunks), default=0)):
        places = [place for place, own in enumerate(chunks) if step < len(own)]
        replies = model.ask([
            note_request(
                prompts.filled(
                    "group_memory", lines=str(lines), knowledge=fenced(found[place]),
                    members=chunks[place][step],
                ),
                lines,
            )
            for place in places
        ])  # fmt: skip
        tally.add(replies)
        for place, reply in zip(places, replies, strict=True):
            found[place] = reply.text.strip()
    return found


def _periods_by_user(group: Sequence[UserTask], count: int) -> list[dict[str, list[Interaction]]]:
    """Returns per period what each user of a community wrote in it; users who did not are left out.

    Periods are of equal size, as in `communities.periods`.
    """
    order = pooled_order([user.history for user in group])
    found: list[dict[str, list[Interaction]]] = [{} for _ in range(count)]
    for number, (user, place) in enumerate(order):
        period = _period(number, len(order), count)
        found[period].setdefault(group[user].user, []).append(group[user].history[place])
    return found


def _period(number: int, total: int, count: int) -> int:
    """Returns in which of `count` parts an item falls; the first ones take one more."""
    size, more = divmod(total, count)
    long = more * (size + 1)
    return number // (size + 1) if number < long else more + (number - long) // max(size, 1)
