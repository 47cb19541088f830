"""What a data-parallel launcher has to supply; one process is the special case."""

from __future__ import annotations

__all__ = ["SINGLE", "Parallel"]

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn


def _unchanged(module: nn.Module) -> nn.Module:
    return module


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Parallel:
    """This worker's place among the workers of one component.

    Args:
        rank: 0 ... world - 1; rank 0 writes all files.
        world: Number of workers.
        wrap: Turns the loss module into one whose gradients are averaged over workers.
        barrier: Waits for all workers.
    """

    rank: int = 0
    world: int = 1
    wrap: Callable[[nn.Module], nn.Module] = _unchanged
    barrier: Callable[[], None] = _nothing

    @property
    def leader(self) -> bool:
        """Whether this worker writes checkpoints, progress and the result."""
        return self.rank == 0


SINGLE = Parallel()
