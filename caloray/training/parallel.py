"""What a data-parallel launcher has to supply; one process is the special case.

Batch normalisation sees each worker's share of a batch. Its running statistics are those of rank 0, which
the wrapper sends to the others before every step; on GPUs the launcher may let the workers share the
statistics of the whole batch. Layers that are set from data once are set by rank 0, from the whole first
batch. Ranks may thus differ in a validation loss by a little, and rank 0's counts.
"""

from __future__ import annotations

__all__ = ["SINGLE", "Parallel"]

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn


def _unchanged(module: nn.Module) -> nn.Module:
    return module


def _nothing() -> None:
    return None


def _own(value: float) -> float:
    return value


@dataclass(frozen=True)
class Parallel:
    """This worker's place among the workers of one component.

    Args:
        rank: 0 ... world - 1; rank 0 writes all files.
        world: Number of workers.
        wrap: Turns the loss module into one whose gradients are averaged over workers; all of them then have
            rank 0's parameters and buffers.
        barrier: Waits for all workers.
        agree: Gives rank 0's number to all workers, so that all take the same decision.
    """

    rank: int = 0
    world: int = 1
    wrap: Callable[[nn.Module], nn.Module] = _unchanged
    barrier: Callable[[], None] = _nothing
    agree: Callable[[float], float] = _own

    @property
    def leader(self) -> bool:
        """Whether this worker writes checkpoints, progress and the result."""
        return self.rank == 0


SINGLE = Parallel()
