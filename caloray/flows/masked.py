"""Masked autoregressive splines: the nflows transform with another spline, another inverse."""

from __future__ import annotations

__all__ = ["ContextOutput", "Degrees", "MaskedSpline", "Network", "direct_dimensions"]

from typing import Any, Literal

import torch
from nflows.transforms.autoregressive import MaskedPiecewiseRationalQuadraticAutoregressiveTransform
from torch import Tensor, nn
from torch.nn import functional as nnf

from caloray.errors import ConfigError
from caloray.flows.inverse import Backend, Inverter, prepare
from caloray.flows.schedule import DegreeSchedule
from caloray.flows.spline import SplineConfig, spline_forward

Degrees = Literal["nflows", "spread"]
Network = Literal["feedforward", "residual"]
ContextOutput = Literal["none", "first", "all"]


class MaskedSpline(MaskedPiecewiseRationalQuadraticAutoregressiveTransform):  # type: ignore[misc]
    """One MADE that sets the parameters of one spline per dimension.

    Papamakarios et al., "Masked autoregressive flow", NIPS 2017; Durkan et al. 2019, section 3.2.

    The network, its parameter names and their order are those of the nflows class it extends, so state
    dicts are interchangeable (masks are part of them). Forward maps data to noise in one pass; inverse maps
    noise to data exactly, by one of the back-ends of :mod:`caloray.flows.inverse`.

    Args:
        features: Dimension D.
        hidden: Width H of every hidden layer.
        context: Number of conditioning features, or None.
        hidden_layers: Number of hidden layers: nflows' ``num_blocks`` + 1, or 2 ``num_blocks`` + 1 of a
            residual network.
        spline: Shape of the spline.
        dropout: Dropout probability after every hidden layer but the first (in a residual network: inside
            every block).
        degrees: How hidden units are assigned degrees. "nflows": unit j gets (j mod (D - 1)) + 1, so that
            with H < D - 1 the inputs above H condition nothing. "spread": floor(linspace) over 1 ... D - 1
            whenever H < D - 1 and the same as "nflows" otherwise; every input then conditions something, but
            the first dimensions see few hidden units. "nflows" was the better one on Geant4 showers
            (``docs/benchmarks.md``).
        network: "feedforward" (published) or "residual" hidden layers.
        autoregressive_step: Size p of the groups of consecutive dimensions that do not see each other: hidden
            degrees are multiples of p, and the inverse takes ceil(D / p) steps. 1 is the full
            autoregressive factorisation.
        context_output: Which dimensions see the context directly in the output layer: "none" (published;
            the first p dimensions then see nothing at all), "first" (those p) or "all".

    Raises:
        ConfigError: ``context`` is below 1, ``autoregressive_step`` leaves a single group, or a
            residual network has an even number of hidden layers.
    """

    def __init__(
        self,
        features: int,
        hidden: int,
        context: int | None,
        hidden_layers: int,
        spline: SplineConfig,
        *,
        dropout: float = 0.0,
        degrees: Degrees = "nflows",
        network: Network = "feedforward",
        autoregressive_step: int = 1,
        context_output: ContextOutput = "none",
    ) -> None:
        residual = network == "residual"
        if context is not None and context < 1:
            raise ConfigError(f"{context} conditioning features", hint="None means that there is no context")
        if residual and hidden_layers % 2 == 0:
            raise ConfigError(f"a residual network has an odd number of hidden layers, not {hidden_layers}")
        if autoregressive_step > 1 and autoregressive_step >= features:
            raise ConfigError(
                f"autoregressive_step {autoregressive_step} leaves no group to condition on in {features} "
                "dimensions",
                hint=f"choose at most {features - 1}",
            )
        super().__init__(
            features=features,
            hidden_features=hidden,
            context_features=context,
            num_blocks=(hidden_layers - 1) // 2 if residual else hidden_layers - 1,
            num_bins=spline.bins,
            tails="linear",
            tail_bound=spline.tail_bound,
            use_residual_blocks=residual,
            dropout_probability=dropout,
            min_bin_width=spline.min_width,
            min_bin_height=spline.min_height,
            min_derivative=spline.min_derivative,
        )
        self.features = features
        self.spline = spline
        self.backend: Backend = "auto"
        self._inverter: tuple[tuple[object, ...], Inverter] | None = None
        self._slots: list[dict[str, Any]] | None = None
        self._frozen: Inverter | None = None
        hidden_degrees = _hidden_degrees(degrees, features, hidden, autoregressive_step)
        if hidden_degrees is not None:
            self._assign(hidden_degrees)
        direct = direct_dimensions(context_output, features, autoregressive_step)
        self.context_output: nn.Linear | None = None
        if direct and context is not None:
            self.context_output = nn.Linear(context, direct * spline.n_raw, bias=False)
            nn.init.zeros_(self.context_output.weight)

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to noise.

        Args:
            inputs: (batch, D).
            context: (batch, C).

        Returns:
            Noise (batch, D) and log |det Jacobian| (batch,).
        """
        outputs, log_slope = spline_forward(inputs, self.raw_parameters(inputs, context), self.spline)
        return outputs, log_slope.sum(dim=1)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Noise to data, the exact inverse of :meth:`forward`; not differentiable.

        Args:
            inputs: (batch, D).
            context: (batch, C).

        Returns:
            Data (batch, D) and log |det Jacobian| of this direction (batch,).
        """
        if not torch.is_grad_enabled():
            return self.inverter()(inputs, context)
        with torch.no_grad():
            return self.inverter()(inputs, context)

    def raw_parameters(self, inputs: Tensor, context: Tensor | None) -> Tensor:
        """The network's output, (batch, 3K - 1, D): the same numbers as nflows', parameter-major."""
        net = self.autoregressive_net
        hidden = net.initial_layer(inputs)
        if context is not None:
            hidden = hidden + torch.relu(net.context_layer(context))
        if not net.use_residual_blocks:
            hidden = torch.relu(hidden)
        for block in net.blocks:
            hidden = block(hidden, context)
        final = net.final_layer
        weight = _parameter_major(final.weight * final.mask, self.spline.n_raw)
        bias = final.bias.view(self.features, -1).t().reshape(-1)
        raw = nnf.linear(hidden, weight, bias).view(-1, self.spline.n_raw, self.features)
        if context is None or self.context_output is None:
            return raw
        direct = nnf.linear(context, _parameter_major(self.context_output.weight, self.spline.n_raw))
        direct = direct.view(len(raw), self.spline.n_raw, direct.shape[1] // self.spline.n_raw)
        if direct.shape[2] == self.features:
            return raw + direct
        return raw + nnf.pad(direct, (0, self.features - direct.shape[2]))

    def schedule(self) -> DegreeSchedule:
        """The weights in the order in which the inverse uses them."""
        direct = None if self.context_output is None else self.context_output.weight
        return DegreeSchedule.of(self.autoregressive_net, self.features, self.spline.n_raw, direct)

    def inverter(self) -> Inverter:
        """The inverse by the chosen back-end; prepared again when a weight has changed.

        What autograd cannot see it cannot see either: after an edit through ``weight.data``, call
        :meth:`train` or :meth:`freeze`.
        """
        if self._frozen is not None:
            return self._frozen
        if self._slots is None:
            self._slots = [slot for m in self.modules() for slot in (m._parameters, m._buffers) if slot]
        tensors = [t for slot in self._slots for t in slot.values() if t is not None]
        state = (self.backend, *[(id(t), t._version, t.data_ptr()) for t in tensors])
        if self._inverter is None or self._inverter[0] != state:
            self._inverter = (state, prepare(self.schedule(), self.spline, self.backend))
        return self._inverter[1]

    def freeze(self, backend: Backend) -> None:
        """Prepare the inverse now and use it from now on without looking at the weights again.

        Loading a state, :meth:`train` and a change of device or precision end it; changes of single weights
        do not, and would not show.
        """
        self.backend, self._frozen = backend, None
        self._frozen = self.inverter()

    def train(self, mode: bool = True) -> MaskedSpline:
        """As every module; the inverse follows the weights again."""
        self._frozen = self._inverter = None
        super().train(mode)
        return self

    def _apply(self, *arguments: Any, **options: Any) -> MaskedSpline:
        self._frozen = None
        super()._apply(*arguments, **options)
        return self

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        self._frozen = None
        super()._load_from_state_dict(*arguments, **options)

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles prepare their own inverse."""
        return {**super().__getstate__(), "_inverter": None, "_slots": None, "_frozen": None}

    def _assign(self, degrees: Tensor) -> None:
        """Give all hidden layers these degrees."""
        net = self.autoregressive_net
        inputs = torch.arange(1, self.features + 1)
        hidden = [
            linear
            for block in net.blocks
            for linear in (block.linear_layers if net.use_residual_blocks else [block.linear])
        ]
        for layer, before in [(net.initial_layer, inputs), *((linear, degrees) for linear in hidden)]:
            layer.degrees.copy_(degrees)
            layer.mask.copy_((degrees[:, None] >= before).float())
        outputs = inputs.repeat_interleave(self.spline.n_raw)
        net.final_layer.mask.copy_((outputs[:, None] > degrees).float())


def direct_dimensions(context_output: ContextOutput, features: int, step: int) -> int:
    """Number of leading dimensions whose output sees the context directly."""
    return {"none": 0, "first": min(step, features), "all": features}[context_output]


def _hidden_degrees(degrees: Degrees, features: int, hidden: int, step: int) -> Tensor | None:
    """(H,) degrees, multiples of ``step``; None where nflows' own are meant."""
    groups = -(-features // step)
    if hidden < groups - 1 and degrees == "spread":
        group = torch.linspace(1, groups - 1, hidden, dtype=torch.float64).floor().long()
    elif step == 1:
        return None
    else:
        group = torch.arange(hidden) % (groups - 1) + 1
    return step * group


def _parameter_major(weight: Tensor, n_raw: int) -> Tensor:
    """Rows (dimension, parameter) to rows (parameter, dimension)."""
    return weight.view(-1, n_raw, weight.shape[1]).transpose(0, 1).reshape(-1, weight.shape[1])
