"""Keeps what a stage of a trial made, for later trials and other workers of the same study.

```
FOLDER/<kind>/<key>.safetensors     tensors; in the metadata facts, and a digest of both
```

Keys are hashes of everything that decides the content, so nothing is ever out of date, and no
user's id or text stands in a name. The cache may forget and never fails: what cannot be read
counts as not there, what cannot be written is not kept.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from errno import ELOOP
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from milp_search.adapters.content_key import tensors_digest
from milp_search.adapters.recent_entries import Entry, RecentEntries

_LOG = logging.getLogger(__name__)

_MIB = 2**20
_LARGEST = 1 / 4  # ours: the share of the bound that one entry may take
_FULL = 0.9  # ours: the rest is room for what is written between two measurements,
_MEASURED = 1 / 32  # ours: which happen once a process has written this share of the bound


class StageCache:
    """A content-addressed store of tensors, shared by processes through a folder.

    Any number of processes and threads may read and write at once: a file is written beside its
    place and renamed, so a reader finds a whole entry or none. Tensors handed out are shared and
    must not be changed.

    Args:
        folder: Where entries lie; made when the first one is written.
        limit_mib: Bound on the files; the entries longest unused go first. Infinity keeps all.
        memory_mib: Bound on the entries that this process also holds in memory.
        beside: A cache on the same disk whose entries need not be written twice: one that is
            there already becomes a second name of the same file, which lives as long as either.
    """

    def __init__(
        self,
        folder: Path,
        limit_mib: float = 1024,
        memory_mib: float = 64,
        beside: StageCache | None = None,
    ):
        self.folder, self.limit, self.beside = folder, limit_mib * _MIB, beside
        self._recent = RecentEntries(int(memory_mib * _MIB))
        self._written = self.limit  # the first entry written measures the folder
        self._counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        self._lock = threading.Lock()
        self._told = False

    @property
    def counts(self) -> dict[str, tuple[int, int]]:
        """Per kind how many lookups found their entry and how many did not, since the reset."""
        with self._lock:
            return {kind: (hits, misses) for kind, (hits, misses) in self._counts.items()}

    def reset_counts(self) -> None:
        """Starts to count anew."""
        with self._lock:
            self._counts.clear()

    def count(self, kind: str, *, hit: bool) -> None:
        """Counts a lookup; from outside, one that was answered before it came here."""
        with self._lock:
            self._counts[kind][0 if hit else 1] += 1

    def get(self, kind: str, key: str) -> Entry | None:
        """Returns the tensors and facts of an entry, or None where none can be read."""
        entry = self._recent.get((kind, key))
        if entry is None:
            entry = self._read(kind, key)
            if entry is not None:
                self._recent.add((kind, key), entry)
        if entry is not None:
            with suppress(OSError):
                os.utime(self.path(kind, key))
        self.count(kind, hit=entry is not None)
        return entry

    def put(
        self, kind: str, key: str, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]
    ) -> None:
        """Keeps an entry; `facts` are plain JSON values. Of several writers the last one wins.

        An entry larger than a quarter of the bound is not kept: it would drive out the others.
        """
        if self._linked(kind, key):
            return
        # Clones: what is kept must not change, and tensors that share memory are not written.
        kept = {
            name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()
        }
        if sum(tensor.nbytes for tensor in kept.values()) > self.limit * _LARGEST:
            return
        text = json.dumps(facts)
        self._recent.add((kind, key), (kept, json.loads(text)))
        content = save(kept, {"facts": text, "digest": _digest(kept, text)})
        try:
            self._make_room(len(content))
            _write(self.path(kind, key), content)
        except FileNotFoundError:
            pass  # another process made room, and took what was not yet in its place
        except OSError as error:
            self._tell_once(error)

    def _read(self, kind: str, key: str) -> Entry | None:
        path = self.path(kind, key)
        try:
            # In one go: `safe_open` opens a file twice, and between it may be gone or another.
            content = path.read_bytes()
            tensors, metadata = load(content), _metadata(content)
            if metadata["digest"] != _digest(tensors, metadata["facts"]):
                raise ValueError("not what was written")
            return tensors, json.loads(metadata["facts"])
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, LookupError, ValueError) as error:
            _LOG.warning("removed an unreadable entry, %s/%s: %s", kind, key, type(error).__name__)
            with suppress(OSError):
                path.unlink()
            return None

    def _linked(self, kind: str, key: str) -> bool:
        """Returns whether the entry is here without being written, for it lies beside."""
        if self.beside is None:
            return False
        source, place = self.beside.path(kind, key), self.path(kind, key)
        try:
            _make_folders(place)
            os.link(source, place)
        except FileExistsError:
            return True
        except OSError:  # it is not there, or this disk knows no second names
            return False
        return True

    def _make_room(self, size: int) -> None:
        """Removes the files longest unused where the folder would be over its bound."""
        with self._lock:
            self._written += size
            if self._written < self.limit * _MEASURED:
                return
            self._written = 0
        files = sorted(_files(self.folder))
        excess = sum(bytes_ for _, bytes_, _ in files) + size - self.limit * _FULL
        for _, bytes_, path in files:
            if excess <= 0:
                break
            with suppress(FileNotFoundError):  # another process makes room, too
                path.unlink()
            excess -= bytes_

    def path(self, kind: str, key: str) -> Path:
        """Returns where an entry lies, or would."""
        return self.folder / kind / f"{key}.safetensors"

    def _tell_once(self, error: OSError) -> None:
        if not self._told:
            _LOG.warning("cannot keep stages in %s: %s", self.folder, error.strerror)
        self._told = True


def _digest(tensors: Mapping[str, torch.Tensor], facts: str) -> str:
    return hashlib.sha256(f"{tensors_digest(tensors)} {facts}".encode()).hexdigest()


def _metadata(content: bytes) -> Mapping[str, str]:
    """Returns the metadata of a safetensors file, which `load` leaves out."""
    header: Mapping[str, Mapping[str, str]] = json.loads(
        content[8 : 8 + int.from_bytes(content[:8], "little")]
    )
    return header["__metadata__"]


def _files(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """Yields when each file was last used, its bytes and its path; unfinished ones, too."""
    for path in folder.glob("*/*"):
        with suppress(FileNotFoundError):
            stat = path.stat()
            yield stat.st_mtime, stat.st_size, path


def _write(path: Path, content: bytes) -> None:
    """Writes a file, whole or not at all; no fsync, for a damaged entry is found by its digest."""
    _make_folders(path)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _make_folders(path: Path) -> None:
    """Makes the folders of a file that are missing, each for its owner alone.

    Raises OSError where one of the cache's own is a link to another place.
    """
    for folder in (path.parent.parent, path.parent):
        if folder.is_symlink():
            raise OSError(ELOOP, f"{folder} is a link to another place")
    missing = [*takewhile(lambda folder: not folder.exists(), path.parents)]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
