"""The entries of a stage cache that this process holds in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Any

import torch

Entry = tuple[Mapping[str, torch.Tensor], Mapping[str, Any]]
"""Tensors by name, and facts about them."""

_LARGEST = 1 / 2  # ours: one entry must not drive out all others


class RecentEntries:
    """A dict of entries of at most `limit` bytes in all; those longest unused go first.

    Threads may share it.
    """

    def __init__(self, limit: int):
        self.limit, self.size = limit, 0
        self._entries: OrderedDict[Hashable, Entry] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Entry | None:
        """Returns the entry, or None."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self._entries.move_to_end(key)
            return entry

    def add(self, key: Hashable, entry: Entry) -> None:
        """Holds the entry in place of what had this key; not if it is most of the bound."""
        with self._lock:
            self._drop(key)
            if _bytes(entry) > self.limit * _LARGEST:
                return
            self._entries[key] = entry
            self.size += _bytes(entry)
            while self.size > self.limit:
                self._drop(next(iter(self._entries)))

    def _drop(self, key: Hashable) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.size -= _bytes(entry)


def _bytes(entry: Entry) -> int:
    return sum(tensor.nbytes for tensor in entry[0].values())
