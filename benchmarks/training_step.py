"""What one training step of one MADE costs on a CPU core: nflows, caloray in torch alone, caloray native.

    python benchmarks/training_step.py [--batches 256 1000] [--rounds 11] [--json training_step.json]

A step is forward, log-determinant and backward of the mean negative log-density, for inputs that need a
gradient too (all but the first MADE of a flow); no optimiser. The default sizes are those of flow 3 of
dataset 2 as published (144 voxels, 191 conditions, 3 hidden layers of 256, 8 bins), weights and data
random, float32. All candidates have the same weights and take turns in one process with one thread; the
table has process CPU times, which other jobs on the machine disturb least, the JSON file wall times too.
"network alone" is the same step without its spline: the matrix products that remain whatever the spline
costs. Last, gradients of every candidate are compared with those of nflows in float64.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from nflows.transforms.autoregressive import MaskedPiecewiseRationalQuadraticAutoregressiveTransform
from sampling_clock import Candidate, Timing, alternate
from sampling_tables import table
from torch import Tensor, nn

from caloray.flows.masked import MaskedSpline
from caloray.flows.native_spline import training_spline
from caloray.flows.spline import SplineConfig
from caloray.native import library

NFLOWS = "nflows"


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    ours, theirs = build(options)
    results: dict[str, dict[str, object]] = {}
    rows = []
    for batch in options.batches:
        data = draw(batch, options)
        timings = alternate(candidates(ours, theirs, data), options.rounds, options.budget)
        errors = compare(ours, theirs, data)
        rows += [row(batch, name, timing, timings[NFLOWS], errors) for name, timing in timings.items()]
        results[str(batch)] = {
            name: {**asdict(timing.milliseconds()), "gradient_error": errors.get(name)}
            for name, timing in timings.items()
        }
    head = ("batch", "spline", "ms per step", "quartiles", "least", "x nflows", "gradients off by")
    print(f"torch {torch.__version__}, {options.threads} thread(s), caloray: {training_spline('cpu')}\n")
    print(table(head, rows))
    if options.json:
        options.json.write_text(json.dumps({"options": shown(options), "ms": results}, indent=1))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", nargs="+", type=int, default=[256, 1000])
    parser.add_argument("--features", type=int, default=144)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--context", type=int, default=191)
    parser.add_argument("--hidden-layers", type=int, default=3)
    parser.add_argument("--bins", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--budget", type=float, default=60.0, help="seconds per batch size, roughly")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def shown(options: argparse.Namespace) -> dict[str, object]:
    return {name: value for name, value in vars(options).items() if name != "json"}


def build(options: argparse.Namespace) -> tuple[MaskedSpline, nn.Module]:
    """One MADE of ours, and nflows' with the same weights."""
    torch.manual_seed(1)
    spline = SplineConfig(bins=options.bins)
    sizes = (options.features, options.hidden, options.context)
    ours = MaskedSpline(*sizes, options.hidden_layers, spline, degrees="nflows")
    theirs = MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
        *sizes,
        num_blocks=options.hidden_layers - 1,
        num_bins=spline.bins,
        tails="linear",
        tail_bound=spline.tail_bound,
        use_residual_blocks=False,
        min_bin_width=spline.min_width,
        min_bin_height=spline.min_height,
        min_derivative=spline.min_derivative,
    )
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def draw(batch: int, options: argparse.Namespace) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(batch)
    x = 3 * torch.randn(batch, options.features, generator=generator)
    return x.requires_grad_(), torch.randn(batch, options.context, generator=generator)


def candidates(ours: MaskedSpline, theirs: nn.Module, data: tuple[Tensor, Tensor]) -> list[Candidate]:
    found = [
        Candidate(NFLOWS, partial(step, theirs, *data)),
        Candidate("caloray, torch", in_torch(ours, data)),
    ]
    if library.load() is not None:
        found.append(Candidate(f"caloray, {training_spline('cpu')}", partial(step, ours, *data)))
    return [*found, Candidate("network alone", partial(network, ours, *data))]


def in_torch(ours: MaskedSpline, data: tuple[Tensor, Tensor]) -> Callable[[], None]:
    def run() -> None:
        with without_library():
            step(ours, *data)

    return run


@contextmanager
def without_library() -> Iterator[None]:
    before = os.environ.get("CALORAY_NATIVE")
    os.environ["CALORAY_NATIVE"] = "0"
    try:
        yield
    finally:
        os.environ.pop("CALORAY_NATIVE")
        if before is not None:
            os.environ["CALORAY_NATIVE"] = before


def step(made: nn.Module, x: Tensor, context: Tensor) -> None:
    """Leaves the gradients in the module's parameters and in x."""
    clear(made, x)
    noise, log_det = made(x, context)
    (0.5 * noise.square().sum(dim=1) - log_det).mean().backward()


def network(made: MaskedSpline, x: Tensor, context: Tensor) -> None:
    clear(made, x)
    raw = made.raw_parameters(x, context)
    raw.backward(raw.detach())


def clear(made: nn.Module, x: Tensor) -> None:
    made.zero_grad(set_to_none=True)
    x.grad = None


def compare(ours: MaskedSpline, theirs: nn.Module, data: tuple[Tensor, Tensor]) -> dict[str, float]:
    """Largest |difference| / |gradient| (norms of one tensor) from nflows in float64, over all tensors."""
    exact = [grad.clone() for grad in gradients(theirs.double(), *data, dtype=torch.float64)]
    theirs.float()
    result = {}
    for candidate in candidates(ours, theirs, data)[:-1]:
        candidate.run()
        made = theirs if candidate.name == NFLOWS else ours
        found = [data[0].grad, *(p.grad for p in made.parameters())]
        result[candidate.name] = max(
            float((a.double() - b).norm() / b.norm())
            for a, b in zip(found, exact, strict=True)
            if a is not None
        )
    return result


def gradients(made: nn.Module, x: Tensor, context: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """Of x and of all parameters."""
    x = x.detach().to(dtype).requires_grad_()
    step(made, x, context.to(dtype))
    return [tensor.grad for tensor in (x, *made.parameters()) if tensor.grad is not None]


def row(batch: int, name: str, timing: Timing, reference: Timing, errors: dict[str, float]) -> list[str]:
    cpu = timing.milliseconds().cpu
    ratio = reference.cpu.median / timing.cpu.median
    error = f"{errors[name]:.1e}" if name in errors else ""
    return [
        str(batch),
        name,
        f"{cpu.median:.1f}",
        f"{cpu.lower:.1f} – {cpu.upper:.1f}",
        f"{cpu.least:.1f}",
        f"{ratio:.2f}",
        error,
    ]


if __name__ == "__main__":
    main()
