"""How fast autoregressive flows are sampled on a CPU core: caloray's back-ends, nflows, zuko, IAF students.

    python benchmarks/sampling.py [--quick] [--json sampling.json] [--markdown sampling.md]

Three sections: the inverse of one MADE at the published sizes; whole dataset-2 and dataset-3 showers at
the published architectures, drawn by caloray's own scheme; what the core can do at best. All weights are
random. One process, one thread; candidates alternate; reported is process CPU time, which other jobs on the
machine disturb least (wall time stands in the JSON file). Where something would take too long, some of its
equal passes or layers are timed and scaled, and the cell is marked; what cannot even begin in twenty seconds
is left out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from sampling_clock import Timing, alternate
from sampling_machine import describe, on_two_cores, roofline, splines
from sampling_models import SIZES, Block, available_backends, peers
from sampling_showers import Model, time_showers
from sampling_tables import AGAINST, SHOWERS_AGAINST, markdown, ratios

from caloray.flows.backends import backends
from caloray.flows.incremental import IncrementalInverter
from caloray.native import library

EXACT_ROWS = 16


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    names = [name for name in available_backends() if not options.backends or name in options.backends]
    names.sort(key=lambda name: name != "native")
    results: dict[str, Any] = {
        "machine": describe() | {"isa": library.isa() if library.load() else "none"},
        "skipped": {status.name: status.detail for status in backends() if status.name not in names},
        "roofline": roofline(options.rounds),
        "splines": splines(names, options.rounds, 16 if options.quick else 141),
        "blocks": {},
        "showers": {},
    }
    for key in options.sizes:
        results["blocks"][key] = measure_block(key, names, options)
    for dataset in options.showers:
        results["showers"][dataset] = measure_showers(dataset, names, options)
    if "native" in names and options.sizes:
        results["two_cores"] = {
            f"{SIZES[key].label}, {name}": on_two_cores(key, name, 1000, options.seconds)
            for key in options.sizes
            if key in {"ds2", "ds3"}
            for name in names
            if name.startswith("native")
        }
    write(results, options)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=list(SIZES), help="MADEs; none: skip")
    parser.add_argument("--showers", nargs="*", choices=("ds2", "ds3"), default=["ds2", "ds3"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16, 100, 1000], help="of one MADE")
    parser.add_argument("--shower-batches", nargs="+", type=int, default=[1, 10, 100, 1000])
    parser.add_argument("--backends", nargs="+", default=[], help="only these of caloray's back-ends")
    parser.add_argument("--rounds", type=int, default=7, help="most rounds of every comparison")
    parser.add_argument("--budget", type=float, default=12.0, help="seconds each (3 rounds at least)")
    parser.add_argument("--seconds", type=float, default=2.5, help="longest single run, roughly")
    parser.add_argument("--float64", action="store_true", help="also nflows in float64 (as published)")
    parser.add_argument("--quick", action="store_true", help="DS2 only, batches 1 and 100, about two minutes")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    if options.quick:
        options.sizes, options.showers = ["ds2"], ["ds2"]
        options.batches, options.shower_batches = [1, 100], [1, 100]
        options.rounds, options.budget, options.seconds = 3, 3.0, 0.5
    return options


def measure_block(key: str, names: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """All batches of one size."""
    block = Block.build(SIZES[key], names)
    result: dict[str, Any] = {
        "label": block.size.label,
        "masked_macs": block.masked_macs,
        "dense_macs": block.dense_macs,
        "weight_bytes": 4 * block.masked_macs,
        "packed_bytes": {
            name: found
            for name, inverter in block.inverters.items()
            if (found := getattr(inverter, "packed_bytes", None))
        },
        "error": errors(block),
        "batches": {},
    }
    for batch in options.batches:
        noise, context = block.draw(batch)
        with torch.no_grad():
            candidates = peers(block, noise, context, options.seconds / 8, float64=options.float64)
            found = alternate(candidates, options.rounds, options.budget)
        row = entry(found, names, AGAINST)
        seconds = {name: found[name].cpu.median for name in names}
        row["gflops"] = {name: 2e-9 * batch * block.masked_macs / value for name, value in seconds.items()}
        result["batches"][str(batch)] = row
        print(f"{block.size.label}, B={batch}: {line(row)}", flush=True)
    return result


def errors(block: Block) -> dict[str, float]:
    """Largest difference of each back-end to the incremental inverse in float64."""
    noise, context = block.draw(EXACT_ROWS)
    exact = IncrementalInverter(block.ours.double().schedule(), block.ours.spline)
    expected, _ = exact(noise.double(), context.double())
    block.ours.float()
    return {
        name: float((inverter(noise, context)[0] - expected).abs().max())
        for name, inverter in block.inverters.items()
    }


def measure_showers(dataset: str, names: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """All batches of one dataset."""
    model = Model.build(dataset, names, float64=options.float64)
    result = {}
    for batch in options.shower_batches:
        found = time_showers(
            model, batch, options.rounds, options.budget, options.seconds, float64=options.float64
        )
        row = entry(found, names, SHOWERS_AGAINST)
        result[str(batch)] = row
        print(f"showers {dataset}, B={batch}: {line(row)}", flush=True)
    return result


def entry(found: Mapping[str, Timing], names: list[str], against: tuple[str, ...]) -> dict[str, Any]:
    """Times in ms and ratios."""
    return {
        "ms": {name: asdict(timing.milliseconds()) for name, timing in found.items()},
        "ratios": ratios({name: timing.cpu.median for name, timing in found.items()}, names, against),
    }


def line(row: Mapping[str, Any]) -> str:
    """One line for whoever waits."""
    return ", ".join(f"{name} {entry['cpu']['median']:.3g} ms" for name, entry in row["ms"].items())


def write(results: dict[str, Any], options: argparse.Namespace) -> None:
    text = markdown(results)
    print(f"\n{text}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    if options.markdown:
        options.markdown.write_text(text)


if __name__ == "__main__":
    main()
