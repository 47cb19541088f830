"""The inverse of a whole flow as CUDA graphs: a few launches instead of thousands.

The pieces and the decisions between them are those of :mod:`caloray.flows.stepper`.
"""

from __future__ import annotations

__all__ = ["CudaGraphRecorder", "cuda_graph_stepper"]

import torch
from nflows.transforms.base import Transform

from caloray.errors import ConfigError
from caloray.flows.jacobi import JacobiInverter
from caloray.flows.stepper import Maker, Stepper, Work


class CudaGraphRecorder:
    """Turns pieces of work into CUDA graphs that share one pool of memory.

    Sharing is safe here although a piece may be replayed after later ones: whatever one graph leaves for
    another is in a tensor that is still referenced, and what may be overwritten belongs to pieces that are
    launched again before anything reads them.

    Args:
        device: The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def __call__(self, work: Work) -> Work:
        """Run the work once to warm up (libraries allocate on first use), record it, and replay it once."""
        with torch.cuda.device(self._device):
            current = torch.cuda.current_stream()
            self._stream.wait_stream(current)
            with torch.cuda.stream(self._stream):
                work()
            current.wait_stream(self._stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                work()
            graph.replay()
        replay: Work = graph.replay
        return replay


def cuda_graph_stepper(
    transform: Transform, rows: int, *, context: int, make: Maker = JacobiInverter, sweeps: int = 5
) -> Stepper:
    """A stepper whose pieces are CUDA graphs; arguments as of :class:`Stepper`.

    Raises:
        ConfigError: The flow is not on a CUDA device.
    """
    device = next(transform.parameters()).device
    if device.type != "cuda":
        raise ConfigError(
            f"CUDA graphs need a flow on a CUDA device, this one is on {device}",
            hint="move the flow to the GPU first, or use Stepper as it is",
        )
    record = CudaGraphRecorder(device)
    return Stepper(transform, rows, context=context, make=make, sweeps=sweeps, record=record)
