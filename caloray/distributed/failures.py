"""What Ray says about work that failed, in our own words."""

from __future__ import annotations

__all__ = ["last_line", "translated"]

from ray.exceptions import OutOfMemoryError, RayError, RayTaskError, WorkerCrashedError

from caloray.errors import CaloRayError, ClusterError


def translated(error: RayError, what: str, index: int | None) -> CaloRayError:
    """The error of a piece of work; what the work itself raised on purpose comes back as it was.

    Args:
        error: Ray's.
        what: Name of the work in messages.
        index: Number of the piece; None: a worker that was getting ready.
    """
    match error:
        case RayTaskError(cause=CaloRayError() as cause):
            return cause
        case RayTaskError(cause=cause):
            reason = f"failed: {type(cause).__name__}: {last_line(cause)}"
            hint = "run with --debug for the worker's traceback"
        case OutOfMemoryError():
            reason = "needs more memory than its node has"
            hint = "use nodes with more memory, or smaller pieces (rows_per_shard, block_size)"
        case WorkerCrashedError():
            reason = "lost its worker again and again (killed, or out of memory)"
            hint = "look at the node's memory and system log; the same command continues where this one ended"
        case _:
            reason = f"was lost: {last_line(error)}"
            hint = "the same command continues where this one ended"
    which = "a worker" if index is None else f"piece {index}"
    return ClusterError(f"{what}: {which} {reason}", hint=hint)


def last_line(error: BaseException) -> str:
    """The last line of an error's text, which is where Ray puts the reason."""
    lines = str(error).strip().splitlines()
    return lines[-1][:300] if lines else type(error).__name__
