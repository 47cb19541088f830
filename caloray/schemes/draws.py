"""What schemes share when they sample: noise that is the same on every device, its image and its density."""

from __future__ import annotations

__all__ = ["image", "latent", "of_asked", "one_thread", "require_some_finite"]

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from nflows.flows.base import Flow
from torch import Tensor

from caloray.errors import NumericalError
from caloray.schemes.streams import Streams


def latent(
    streams: Streams, component: str, shape: tuple[int, int], flow: Flow, purpose: str = "latent"
) -> Tensor:
    """Standard normal numbers (B, D) drawn on the host, in the dtype and on the device of the flow.

    Args:
        streams: Where they come from.
        component: Name of their stream.
        shape: Rows of the batch B and dimension D.
        flow: What will invert them.
        purpose: Second half of the name; another one for every draw for the same rows.
    """
    weight = next(flow.parameters())
    noise = streams.normal(component, purpose, shape)
    return torch.as_tensor(noise, dtype=weight.dtype).to(weight.device)


def image(flow: Flow, noise: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
    """What a flow makes of noise, and how likely it is.

    Args:
        flow: In evaluation mode.
        noise: (B, D).
        context: (B, C) or planes, as the flow's inverse takes it.

    Returns:
        Data (B, D) and the logarithm of their density (B,) float64: that of the noise less the log |det
        Jacobian| of the inverse, which is there anyway. NaN where a number of the data is not finite.
    """
    x, log_det = flow._transform.inverse(noise, context)
    log_prob: Tensor = flow._distribution.log_prob(noise.double()) - log_det.double()
    return x, log_prob.where(torch.isfinite(x).all(dim=1), torch.nan)


def of_asked(log_prob: Tensor, asked: Tensor) -> Tensor:
    """Log densities (B,) of layers, 0 where the flow was not asked (B,); that it failed is never hidden."""
    return log_prob.where(asked | log_prob.isnan(), 0.0)


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread meanwhile, so that the number of cores changes no bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def require_some_finite(x: Tensor, what: str, streams: Streams) -> None:
    """Stop where a component gave no finite number for a whole block; pieces of blocks may hold NaN alone.

    Args:
        x: What it gave, any shape.
        what: The component, for the message.
        streams: Where its noise came from.

    Raises:
        NumericalError: There is none.
    """
    key = streams.block
    if key is not None and not bool(torch.isfinite(x).any()):
        raise NumericalError(
            f"component {what}: no finite number in block {key.block}, "
            f"seed {key.seed}, attempt {key.attempt}",
            hint="the weights are unusable; look at the training history of this component",
        )
