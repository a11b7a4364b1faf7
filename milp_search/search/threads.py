"""Threads: one, whatever the process is set to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def single_thread() -> Iterator[None]:
    """Runs torch and the linear algebra libraries on one thread inside the block.

    The matrices here are small, so that further threads only wait for each other: beside a
    training, NUTS took four times as long on two threads. JAX takes its LAPACK from SciPy,
    which must be loaded for its threads to be limited.
    """
    import scipy.linalg  # noqa: F401 - loads the library whose threads are limited
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        torch.set_num_threads(before)
