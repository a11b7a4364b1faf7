"""Whether the GPU of this process still computes, after something has failed."""

from __future__ import annotations

import torch

from milp_search.core.errors import StudyError


class LostGpuError(StudyError):
    """A GPU that this process cannot use any more; another process may."""


def require_gpu() -> None:
    """Checks that CUDA still works where this process has begun to use it.

    After an illegal access, a failed assertion in a kernel or a fault of the memory every later
    call in the same process fails, whatever it is.

    Raises:
        LostGpuError: It does not.
    """
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return
    try:
        torch.cuda.synchronize()
    except RuntimeError as error:
        raise LostGpuError(
            f"expected the GPU to go on, got: {str(error).splitlines()[0]}",
            remedy="Nothing is lost: resume the study. If it happens again look for faults of the "
            "GPU (nvidia-smi -q), or run on the CPU (dispatch.device).",
        ) from error
