"""Conditional masked autoregressive flows: MADE blocks and permutations as the published models have them."""

from __future__ import annotations

__all__ = ["Chain", "MAFConfig", "build_maf", "count_parameters", "maf_parameters"]

from typing import Literal

import torch
from nflows.distributions.normal import StandardNormal
from nflows.flows.base import Flow
from nflows.transforms.base import CompositeTransform, Transform
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from caloray.flows.masked import ContextOutput, Degrees, MaskedSpline, Network, direct_dimensions
from caloray.flows.permutation import FixedPermutation
from caloray.flows.spline import SplineConfig
from caloray.rng import StreamKey

Permutations = Literal["reverse-random", "random"]


class MAFConfig(BaseModel):
    """One conditional MAF with rational-quadratic splines.

    Args:
        blocks: Number of MADEs.
        hidden: Width of their hidden layers.
        hidden_layers: Number of hidden layers of each.
        dropout: Dropout probability in all hidden layers but the first.
        degrees: Assignment of hidden degrees, where ``hidden`` is below D - 1: "nflows" (published) was the
            better one in likelihood on Geant4 showers, "spread" needs fewer products.
        network: "feedforward" (published) or "residual" hidden layers.
        autoregressive_step: Dimensions per autoregressive group p: sampling takes ceil(D / p) steps.
        context_output: Which dimensions see the context directly in the output layer: "none" (published),
            the "first" group, which sees nothing else, or "all".
        permutations: "reverse-random": reversal after even blocks, a fixed random permutation after odd
            ones, none after the last (iCaloFlow); "random": a random permutation after every block, the
            last included (CaloFlow flow-I).
        spline: Shape of the splines.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    blocks: int = Field(8, ge=1)
    hidden: int = Field(256, ge=1)
    hidden_layers: int = Field(2, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    degrees: Degrees = "nflows"
    network: Network = "feedforward"
    autoregressive_step: int = Field(1, ge=1)
    context_output: ContextOutput = "none"
    permutations: Permutations = "reverse-random"
    spline: SplineConfig = SplineConfig()

    @model_validator(mode="after")
    def _whole_residual_blocks(self) -> MAFConfig:
        if self.network == "residual" and self.hidden_layers % 2 == 0:
            raise ValueError(
                f"a residual network has an odd number of hidden_layers: choose {self.hidden_layers - 1} or "
                f"{self.hidden_layers + 1}"
            )
        return self


class Chain(CompositeTransform):  # type: ignore[misc]
    """Nflows' composition; its inverse does not build a new module list in every call."""

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Noise to data.

        Args:
            inputs: (batch, D).
            context: (batch, C).

        Returns:
            Data (batch, D) and log |det Jacobian| of this direction (batch,).
        """
        log_det = inputs.new_zeros(len(inputs))
        for part in reversed(self._transforms):
            inputs, change = part.inverse(inputs, context)
            log_det += change
        return inputs, log_det


def build_maf(config: MAFConfig, features: int, context: int, key: StreamKey) -> Flow:
    """A fresh flow: data to standard normal noise.

    Args:
        config: Architecture.
        features: Dimension of the data.
        context: Number of conditioning features.
        key: Random stream of the initial weights and the permutations; the global generators stay untouched.
    """
    transforms: list[Transform] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key.seed64())
        for block in range(config.blocks):
            transforms.append(
                MaskedSpline(
                    features,
                    config.hidden,
                    context,
                    config.hidden_layers,
                    config.spline,
                    dropout=config.dropout,
                    degrees=config.degrees,
                    network=config.network,
                    autoregressive_step=config.autoregressive_step,
                    context_output=config.context_output,
                )
            )
            permutation = _permutation(config, block, features)
            if permutation is not None:
                transforms.append(permutation)
    return Flow(Chain(transforms), StandardNormal([features]))


def _permutation(config: MAFConfig, block: int, features: int) -> Transform | None:
    last = block == config.blocks - 1
    if config.permutations == "random":
        return FixedPermutation(torch.randperm(features))
    if last:
        return None
    return FixedPermutation(torch.arange(features).flip(0) if block % 2 == 0 else torch.randperm(features))


def maf_parameters(config: MAFConfig, features: int, context: int) -> int:
    """Number of trainable parameters by formula, without building the flow; masked weights count."""
    h, outputs = config.hidden, features * config.spline.n_raw
    hidden = (config.hidden_layers - 1) * (h * h + h)
    if config.network == "residual":
        hidden += (config.hidden_layers - 1) // 2 * (context * h + h)
    direct = direct_dimensions(config.context_output, features, config.autoregressive_step)
    made = (features * h + h) + (context * h + h) + hidden + context * direct * config.spline.n_raw
    return config.blocks * (made + h * outputs + outputs)


def count_parameters(module: nn.Module) -> int:
    """Number of trainable parameters of a module."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
