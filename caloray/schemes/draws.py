"""What schemes share when they sample: noise that is the same on every device, and a check of its image."""

from __future__ import annotations

__all__ = ["latent", "one_thread", "require_some_finite"]

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from nflows.flows.base import Flow
from torch import Tensor

from caloray.errors import NumericalError
from caloray.rng import StreamKey


def latent(key: StreamKey, shape: tuple[int, int], flow: Flow) -> Tensor:
    """Standard normal numbers (B, D) drawn on the host, in the dtype and on the device of the flow."""
    weight = next(flow.parameters())
    return torch.as_tensor(key.generator().standard_normal(shape), dtype=weight.dtype).to(weight.device)


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread meanwhile, so that the number of cores changes no bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def require_some_finite(x: Tensor, what: str, key: StreamKey) -> None:
    """Stop where a component gave no finite number for a whole block.

    Args:
        x: What it gave, any shape.
        what: The component, for the message.
        key: Address of the block.

    Raises:
        NumericalError: There is none.
    """
    if not bool(torch.isfinite(x).any()):
        raise NumericalError(
            f"component {what}: no finite number in block {key.block}, "
            f"seed {key.seed}, attempt {key.attempt}",
            hint="the weights are unusable; look at the training history of this component",
        )
