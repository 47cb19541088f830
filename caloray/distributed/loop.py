"""What a Ray Train worker runs: take the rows, train the component, say how it ended.

The training itself (steps, checkpoints, resuming) is :func:`caloray.training.run.train_component`, which
knows nothing of Ray; its files on the shared file system are the only truth, so nothing is reported to Ray.
"""

from __future__ import annotations

__all__ = ["ComponentJob", "FileStop", "component_loop"]

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from caloray.distributed.layer_feed import take_layers
from caloray.errors import CaloRayError, InterruptedRunError
from caloray.geometry import Geometry
from caloray.interrupt import FileStop
from caloray.training.files import ComponentResult
from caloray.training.parallel import Parallel
from caloray.training.run import TrainRequest, train_component


@dataclass(frozen=True)
class ComponentJob:
    """One component's training as it travels to its workers.

    Args:
        request: What to train, and where its files go.
        geometry: Readout of the showers.
        layers: Layers that the component reads.
        stop_file: Where a stop request would appear.
        threads: torch threads of each worker.
        memory: What one worker is expected to take [bytes].
        after: Component of the same run whose weights this one starts from; it has to be trained first.
        sums: Whether it looks at the energies of its layers alone.
    """

    request: TrainRequest
    geometry: Geometry
    layers: tuple[int, ...]
    stop_file: Path
    threads: int = 1
    memory: int = 0
    after: str | None = None
    sums: bool = False

    @property
    def name(self) -> str:
        """Name of the component."""
        return self.request.component.name


def component_loop(config: Mapping[str, Any]) -> ComponentResult | CaloRayError:
    """Train the ``job`` in ``config`` on this worker, on the rows in ``columns`` of ``config``.

    A deliberate error is returned, not raised, where the worker is alone: Ray would restart the worker and
    meet the same error again. Beside other workers it is raised, which ends them too.
    """
    import ray.train

    job: ComponentJob = config["job"]
    torch.set_num_threads(job.threads)
    context = ray.train.get_context()
    world = int(context.get_world_size())
    stop = FileStop(job.stop_file)
    try:
        stop.check(f"training of {job.name}")
        training, validation = (take_layers(config["columns"], split) for split in ("train", "validation"))
        parallel = _parallel(int(context.get_world_rank()), world)
        return train_component(_placed(job.request), training, validation, parallel, stop)
    except InterruptedRunError as error:
        return error
    except CaloRayError as error:
        if world > 1:
            raise
        return error


def _placed(request: TrainRequest) -> TrainRequest:
    """The request on the device that Ray gave to this worker; workers of one node see each other's GPUs."""
    from ray.train.torch import get_device

    if request.config.device != "auto":
        return request
    config = request.config.model_copy(update={"device": str(get_device())})
    return replace(request, config=config)


def _parallel(rank: int, world: int) -> Parallel:
    """This worker's place in the process group that Ray Train has set up."""
    if world == 1:
        return Parallel()
    return Parallel(rank, world, wrap=_averaged, barrier=_barrier, agree=_agreed)


def _averaged(module: nn.Module) -> nn.Module:
    """Average the gradients over the workers in every backward pass.

    On GPUs batch normalisation takes the statistics of the whole batch; torch offers that there alone.
    """
    if next(module.parameters()).is_cuda:
        module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
    return nn.parallel.DistributedDataParallel(module)


def _agreed(value: float) -> float:
    """Rank 0's number."""
    numbers: list[float] = [value]
    torch.distributed.broadcast_object_list(numbers, src=0)
    return numbers[0]


def _barrier() -> None:
    torch.distributed.barrier()
