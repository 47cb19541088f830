"""How far every back-end's inverse of a *trained* flow is from nflows' own in float64.

    python benchmarks/exactness.py runs/par04_ds2/bundle [--rows 512] [--json exactness.json]

Showers are drawn from the bundle, and the noise and the context of every call of every component are kept:
the flows are tried where they are used. A random part of these rows is then inverted by nflows' loop of D
passes in float64 with the same weights (the reference), by nflows in float32 and by each back-end in both
precisions. The largest deviation belongs to the worst-conditioned number of all; the quantiles say what is
typical. Needs flows that nflows has, too (context_output "none").
"""

from __future__ import annotations

import argparse
import copy
import platform
import time
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from nflows.flows.base import Flow
from nflows.transforms.autoregressive import AutoregressiveTransform
from nflows.transforms.autoregressive import MaskedPiecewiseRationalQuadraticAutoregressiveTransform as Nflows
from torch import Tensor

from caloray.atomic import write_json
from caloray.bundle import Bundle
from caloray.errors import ConfigError
from caloray.flows.freeze import freeze
from caloray.flows.inverse import fingerprint, resolve
from caloray.flows.masked import MaskedSpline
from caloray.flows.names import Backend
from caloray.rng import StreamKey
from caloray.schemes.streams import BlockStreams

Rows = tuple[Tensor, Tensor]


def recorded(bundle: Bundle, showers: int) -> dict[str, Rows]:
    """Noise and context of every row of every component while showers are drawn."""
    kept: dict[str, list[Rows]] = {name: [] for name in bundle.flows}
    flows = {name: copy.deepcopy(flow) for name, flow in bundle.flows.items()}
    for name, flow in flows.items():
        inverse = flow._transform.inverse

        def record(noise: Tensor, context: Tensor, name: str = name, inverse: Any = inverse) -> Rows:
            kept[name].append((noise, context))
            return inverse(noise, context)

        flow._transform.inverse = record
    low, high = bundle.energy_range
    energies = np.exp(np.random.default_rng(5).uniform(np.log(low), np.log(high), showers))
    bundle.scheme.sample(flows, energies, BlockStreams(StreamKey(5, "", "", 0, 0)))
    return {
        name: tuple(torch.cat(parts) for parts in zip(*calls, strict=True)) for name, calls in kept.items()
    }


def nflows_inverse(flow: Flow, noise: Tensor, context: Tensor) -> Tensor:
    """Nflows' own loop and spline with the flow's weights and permutations."""
    x = noise
    for transform in reversed(flow._transform._transforms):
        if isinstance(transform, MaskedSpline):
            if transform.context_output is not None:
                raise SystemExit("nflows has no context in the output layer; choose another bundle")
            x, _ = AutoregressiveTransform.inverse(_Plain(transform), x, context)
        else:
            x, _ = transform.inverse(x, context)
    return x


class _Plain:
    """The nflows view of one of our MADEs: its network with nflows' element-wise inverse."""

    def __init__(self, block: MaskedSpline) -> None:
        self.autoregressive_net = block.autoregressive_net
        self._block = block

    def _elementwise_inverse(self, inputs: Tensor, parameters: Tensor) -> Rows:
        return Nflows._elementwise_inverse(self._block, inputs, parameters)


def available() -> list[Backend]:
    found: list[Backend] = []
    for name in get_args(Backend):
        try:
            if resolve(name, "cpu") == name:
                found.append(name)
        except ConfigError as error:
            print(f"{name}: skipped, {error}")
    return found


def deviation(found: Tensor, exact: Tensor) -> dict[str, float]:
    """Largest, root mean square and quantiles of |x - exact|."""
    far = (found.double() - exact).abs().flatten()
    ordered = far.sort().values
    quantile = {f"q{q}": float(ordered[int(q / 100 * (len(ordered) - 1))]) for q in (50, 99, 99.99)}
    return {"max": float(far.max()), "rms": float(far.square().mean().sqrt()), **quantile}


def compare(name: str, flow: Flow, rows: Rows) -> list[dict[str, Any]]:
    """One record for each inverse of one component."""
    noise, context = rows
    records: list[dict[str, Any]] = []
    single, double = flow, copy.deepcopy(flow).double()
    with torch.no_grad():
        exact = nflows_inverse(double, noise.double(), context.double())

        def add(what: str, dtype: torch.dtype, found: Tensor, seconds: float) -> None:
            module = double if dtype == torch.float64 else single
            back = module._transform(found, context.to(dtype))[0]
            trip = float((back.double() - noise.double()).abs().max())
            records.append(
                {
                    "component": name,
                    "inverse": what,
                    "dtype": str(dtype).removeprefix("torch."),
                    **deviation(found, exact),
                    "round_trip": trip,
                    "seconds": seconds,
                }
            )

        start = time.perf_counter()
        found = nflows_inverse(single, noise, context)
        add("nflows", torch.float32, found, time.perf_counter() - start)
        for backend in available():
            for dtype, module in ((torch.float32, single), (torch.float64, double)):
                if backend == "native-bf16" and dtype == torch.float64:
                    continue
                freeze(module, backend)
                z, c = noise.to(dtype), context.to(dtype)
                module._transform.inverse(z[:2], c[:2])
                start = time.perf_counter()
                found = module._transform.inverse(z, c)[0]
                add(fingerprint(backend), dtype, found, time.perf_counter() - start)
    return records


def table(records: list[dict[str, Any]]) -> str:
    lines = [
        "| component | inverse | dtype | max | rms | median | 99 % | 99.99 % | round trip |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in records:
        numbers = [r[key] for key in ("max", "rms", "q50", "q99", "q99.99", "round_trip")]
        cells = [r["component"], r["inverse"], r["dtype"], *(f"{value:.1e}" for value in numbers)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rows", type=int, default=512, help="rows of each component")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    bundle = Bundle.load(options.bundle)
    records = []
    for name, (noise, context) in recorded(bundle, 256).items():
        chosen = torch.randperm(len(noise), generator=torch.Generator().manual_seed(1))[: options.rows]
        records += compare(name, copy.deepcopy(bundle.flows[name]), (noise[chosen], context[chosen]))
        print(table(records[-1:]).splitlines()[-1], flush=True)
    print(table(records))
    if options.json:
        write_json(
            options.json, {"machine": platform.processor(), "numerics": bundle.numerics, "records": records}
        )


if __name__ == "__main__":
    main()
