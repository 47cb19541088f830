"""Train one network: Adam on the cross entropy, the epoch with the best accuracy wins."""

from __future__ import annotations

__all__ = ["TensorSource", "choose_device", "train_network"]

import copy

import numpy as np
import torch
from torch import Tensor, nn

from caloray.errors import ConfigError, NumericalError
from caloray.evaluation.classifiers.config import DnnConfig, ResnetConfig
from caloray.evaluation.classifiers.inputs import InputTable
from caloray.evaluation.classifiers.parts import Epochs, Part, Parts, Trained
from caloray.rng import StreamKey

CACHE_BYTES = 1 << 30


class TensorSource:
    """Rows of an :class:`InputTable` as tensors on a device.

    They are made once and kept there where they are small (by default 1 GiB, on a GPU half of its free
    memory), and otherwise made anew for every batch.
    """

    def __init__(self, table: InputTable, device: torch.device, cache: int | None = None) -> None:
        self.table = table
        self.device = device
        self._whole: Tensor | None = None
        if table.nbytes <= (_room(device) if cache is None else cache):
            dtype = torch.from_numpy(np.empty(0, table.dtype)).dtype
            self._whole = torch.empty(len(table), table.width, dtype=dtype, device=device)
            for place, inputs in table.chunks():
                self._whole[place] = torch.from_numpy(inputs).to(device)

    def rows(self, rows: np.ndarray) -> Tensor:
        """(B, width) tensor."""
        if self._whole is None:
            return torch.from_numpy(self.table.batch(rows)).to(self.device)
        return self._whole[torch.from_numpy(rows).to(self.device)]


def _room(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else CACHE_BYTES


def choose_device(name: str) -> torch.device:
    """The torch device of a config.

    Raises:
        ConfigError: It does not exist here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"classifier device {name!r} is unknown", hint="use auto, cpu or cuda") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"classifier device {name}: torch sees {torch.cuda.device_count()} GPUs", hint="use auto or cpu"
        )
    return device


def train_network(
    network: nn.Module,
    source: TensorSource,
    parts: Parts,
    config: DnnConfig | ResnetConfig,
    key: StreamKey,
    after_epoch: Epochs | None = None,
) -> Trained:
    """Train until the last epoch, or until every shower of the second part is told apart.

    Args:
        network: Its weights are changed in place.
        source: The inputs.
        parts: Rows and labels.
        config: Epochs, batch and learning rate.
        key: Stream of the batches; its block counts epochs.
        after_epoch: Called with the number of finished epochs.

    Raises:
        NumericalError: The loss is not a number.
    """
    network.to(source.device)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    best, best_epoch, kept, epoch = -1.0, 0, {}, 0
    for epoch in range(1, config.epochs + 1):
        _epoch(network, optimizer, source, parts.train, config.batch, key.at(epoch))
        accuracy = float(
            np.mean(
                (_probabilities(network, source, parts.test, config.batch) > 0.5) == (parts.test.labels > 0.5)
            )
        )
        if accuracy > best:
            best, best_epoch, kept = accuracy, epoch, copy.deepcopy(network.state_dict())
        if after_epoch is not None:
            after_epoch(epoch)
        if accuracy == 1.0:
            break
    network.load_state_dict(kept)
    test, final = (_probabilities(network, source, part, config.batch) for part in (parts.test, parts.final))
    return Trained(test, final, epoch, best_epoch)


def _epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    source: TensorSource,
    part: Part,
    batch: int,
    key: StreamKey,
) -> None:
    network.train()
    for places in _batches(key.generator().permutation(len(part.rows)), batch):
        inputs = source.rows(part.rows[places])
        labels = torch.from_numpy(part.labels[places]).to(inputs)[:, None]
        loss = nn.functional.binary_cross_entropy_with_logits(network(inputs), labels)
        if not torch.isfinite(loss):
            raise NumericalError(
                f"classifier: the loss is {float(loss.detach())} in epoch {key.block}",
                hint="look for absurd showers in the input, or lower the learning rate",
            )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _batches(order: np.ndarray, batch: int) -> list[np.ndarray]:
    """Pieces of ``batch``; a single row that is left over joins the last piece (no variance of one row)."""
    ends = list(range(batch, len(order), batch))
    if ends and len(order) - ends[-1] == 1:
        ends.pop()
    return np.split(order, ends)


def _probabilities(network: nn.Module, source: TensorSource, part: Part, batch: int) -> np.ndarray:
    network.eval()
    with torch.no_grad():
        pieces = [network(source.rows(part.rows[a : a + batch])) for a in range(0, len(part.rows), batch)]
        return np.asarray(torch.sigmoid(torch.cat(pieces)).reshape(-1).double().cpu().numpy())
