"""The composition of a layer flow's parts, which can be frozen for sampling."""

from __future__ import annotations

__all__ = ["ConvTransform"]

from typing import Any

from torch import Tensor

from caloray.errors import ConfigError
from caloray.flows.conv.sampler import ConvSampler, prepare
from caloray.flows.maf import Chain
from caloray.flows.names import Backend


class ConvTransform(Chain):
    """Flat layers (batch, voxels) to noise (batch, voxels), given context planes (batch, C, h, w)."""

    _sampler: ConvSampler | None = None

    def freeze(self, backend: Backend) -> None:
        """Prepare the inverse for final weights; see :mod:`caloray.flows.conv.sampler`.

        Loading a state, :meth:`train` and a change of device or precision end it; changes of single weights
        do not, and would not show.
        """
        self._sampler = prepare(self, backend)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Noise to data.

        Raises:
            ConfigError: In training mode, where BatchNorm would mix the showers of a batch.
        """
        if self.training:
            raise ConfigError(
                "a convolutional flow samples in evaluation mode only", hint="call flow.eval() first"
            )
        if self._sampler is not None and context is not None:
            return self._sampler(inputs, context)
        return super().inverse(inputs, context)

    def train(self, mode: bool = True) -> ConvTransform:
        """As every module; the inverse follows the weights again."""
        self._sampler = None
        super().train(mode)
        return self

    def _apply(self, *arguments: Any, **options: Any) -> ConvTransform:
        self._sampler = None
        super()._apply(*arguments, **options)
        return self

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        self._sampler = None
        super()._load_from_state_dict(*arguments, **options)

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles prepare their own inverse."""
        return {**super().__getstate__(), "_sampler": None}
