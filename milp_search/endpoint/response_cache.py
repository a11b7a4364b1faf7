"""Keeps every answer that was paid for, so that no question is paid twice.

```
FOLDER/<first two digits>/<key>.json     the answer and what it took
FOLDER/<first two digits>/<key>.lock     held by whoever is asking
```

A key is the hash of the question and of the model: nothing is ever out of date, and no text stands
in a name. Answers are on disk, fsynced, before anyone sees them. Nothing is ever thrown out.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import final

from milp_search.core.chat import ChatReply, ChatRequest
from milp_search.core.whole_file import put_whole

# Answers, locks, and what killed processes left of answers half written.
_OURS = re.compile(r"[0-9a-f]{64}\.(json|lock)|\.[0-9a-f]{64}\.json\.[a-z0-9_]{8}")


def request_key(model: str, request: ChatRequest) -> str:
    """Returns the hash of everything that decides an answer, 64 hex digits."""
    text = json.dumps([model, asdict(request)], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@final
class ResponseCache:
    """A folder of answers, shared by any number of processes."""

    def __init__(self, folder: Path):
        self.folder = folder

    def get(self, key: str, payer: str | None = None) -> ChatReply | None:
        """Returns the answer that is kept, None where there is none.

        It is marked as paid where this payer paid for it.
        """
        try:
            values = json.loads(self._path(key).read_text(encoding="utf-8"))
            reply = ChatReply(**values["reply"])
            whole = values["digest"] == _digest(key, reply)
            paid = payer is not None and values["payer"] == payer
        except (OSError, ValueError, LookupError, TypeError):
            return None
        return replace(reply, paid=paid) if whole else None

    def put(self, key: str, reply: ChatReply, payer: str | None = None) -> None:
        """Keeps an answer and who paid for it, whole or not at all."""
        path = self._path(key)
        digest = _digest(key, reply)
        text = json.dumps({"reply": asdict(reply), "digest": digest, "payer": payer})
        put_whole(path, text)

    def clear(self) -> int:
        """Removes all answers, and no other file, and returns how many files that were."""
        files = [
            path
            for path in self.folder.glob("[0-9a-f][0-9a-f]/*")
            if _OURS.fullmatch(path.name) and path.is_file() and not path.is_symlink()
        ]
        for path in files:
            path.unlink()
        for folder in {path.parent for path in files}:
            with suppress(OSError):  # something else lies there
                folder.rmdir()
        return len(files)

    @contextmanager
    def asking(self, key: str) -> Iterator[bool]:
        """Yields whether nobody else asks this question now; until the block ends nobody will."""
        path = self._path(key).with_suffix(".lock")
        for folder in (self.folder, path.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                free = True
            except BlockingIOError:
                free = False
            yield free
        finally:
            os.close(descriptor)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"


def _digest(key: str, reply: ChatReply) -> str:
    text = json.dumps([key, asdict(reply)], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
