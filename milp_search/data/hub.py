"""Data sets of the Hugging Face hub: the only use of `datasets`, imported when one is named."""

from __future__ import annotations

from collections.abc import Iterator

from milp_search.core.errors import DataError, Location
from milp_search.data.read_json import Located


def hub_records(name: str) -> Iterator[Located]:
    """Yields the records of every split of a hub data set, numbered from 1.

    `hub:OWNER/NAME` is a data set, `hf://datasets/OWNER/NAME/FILE.jsonl` one file of it.

    Raises DataError if the data set cannot be had.
    """
    number = 0
    for rows in _load(name):
        for row in rows:
            number += 1
            yield Location(name, number), row


def _load(name: str) -> Iterator[Iterator[object]]:
    import datasets

    try:
        if name.startswith("hf://"):
            splits = datasets.load_dataset("json", data_files=name)
        else:
            splits = datasets.load_dataset(name.removeprefix("hub:"))
    except (OSError, ValueError, RuntimeError) as error:
        # The library's own errors derive from the first two; a loading script is the third.
        raise DataError(
            f"cannot load the hub data set: {error}",
            at=Location(name),
            remedy="Check the name and the network, or give a local file.",
        ) from error
    yield from splits.values()
