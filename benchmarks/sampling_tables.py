"""The sampling benchmark's results as Markdown, for docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

AGAINST = ("nflows f32", "IAF pass", "zuko")
SHOWERS_AGAINST = ("nflows teacher", "IAF student", "IAF student as published")


def markdown(results: Mapping[str, Any]) -> str:
    """All sections."""
    parts = [_machine(results), *map(_block, results["blocks"].values())]
    for dataset, batches in results["showers"].items():
        title = f"### Whole showers, {dataset.upper()}, ms per shower"
        parts.append(f"{title}\n\n" + _timings(batches, per_sample=True))
    if "two_cores" in results:
        parts.append(_two_cores(results["two_cores"]))
    return "\n\n".join(parts) + "\n"


def _machine(results: Mapping[str, Any]) -> str:
    machine = results["machine"]
    changed = " with changes" if machine["changed"] else ""
    text = (
        f"{machine['cpu']} ({', '.join(machine['flags'])}), torch {machine['torch']}, {machine['threads']} "
        f"thread, native code for {machine['isa']}, commit {machine['commit']}{changed}. CPU time; medians, "
        "[least] behind them; * = a part was run and scaled."
    )
    skipped = [f"Left out: {name} ({why})." for name, why in results["skipped"].items()]
    rows = [(name, _number(value)) for name, value in results["roofline"].items()]
    rows += [(f"spline, {name} [ns]", _number(value)) for name, value in results["splines"].items()]
    return "\n\n".join([" ".join([text, *skipped]), table(("of this core", ""), rows)])


def _block(size: Mapping[str, Any]) -> str:
    facts = (
        f"{size['masked_macs'] / 1e6:.2f} M multiply-adds per sample after masking, "
        f"{size['dense_macs'] / 1e6:.2f} M before; {size['weight_bytes'] / 1e6:.1f} MB of float32 weights"
    )
    if size["packed_bytes"]:
        packed = (f"{name} {bytes_ / 1e6:.1f} MB" for name, bytes_ in size["packed_bytes"].items())
        facts += f", packed: {', '.join(packed)}"
    errors = ", ".join(f"{name} {error:.1e}" for name, error in size["error"].items())
    rates = table(
        ("masked GFLOP/s, splines included", *(f"B={batch}" for batch in size["batches"])),
        [
            (name, *(_number(row["gflops"][name]) for row in size["batches"].values()))
            for name in size["error"]
        ],
    )
    return "\n\n".join(
        [
            f"### One MADE: {size['label']}, ms per batch",
            f"{facts}. Largest difference to float64: {errors}.",
            _timings(size["batches"], per_sample=False),
            rates,
        ]
    )


def _timings(batches: Mapping[str, Any], *, per_sample: bool) -> str:
    """One row per way, one column per batch, then the ratios."""
    names = dict.fromkeys(name for row in batches.values() for name in row["ms"])
    rows = [
        (name, *(_time(row, name, int(batch) if per_sample else 1) for batch, row in batches.items()))
        for name in names
    ]
    for ratio in dict.fromkeys(name for row in batches.values() for name in row["ratios"]):
        cells = (_number(row["ratios"].get(ratio)) for row in batches.values())
        rows.append((f"**{ratio}**", *(f"**{cell}**" if cell else "" for cell in cells)))
    return table(("", *(f"B={batch}" for batch in batches)), rows)


def ratios(cpu: Mapping[str, float], ours: Iterable[str], against: Sequence[str]) -> dict[str, float]:
    """Every competitor's median over each of our own."""
    return {
        f"{other} / {name}": cpu[other] / cpu[name]
        for other in against
        if other in cpu
        for name in ours
        if name in cpu
    }


def _time(row: Mapping[str, Any], name: str, share: int) -> str:
    entry = row["ms"].get(name)
    if entry is None:
        return ""
    star = "*" if entry["scaled"] else ""
    cpu = entry["cpu"]
    return f"{_number(cpu['median'] / share)}{star} [{_number(cpu['least'] / share)}]"


def _two_cores(found: Mapping[str, Any]) -> str:
    rows = [(name, *(_number(value) for value in rates.values())) for name, rates in found.items()]
    head = ("samples through one MADE per second, B=1000", *next(iter(found.values())))
    return f"### Two cores\n\n{table(head, rows)}"


def _number(value: float | None) -> str:
    """Three significant digits, no exponent."""
    if value is None:
        return ""
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:.3f}" if abs(value) < 1 else f"{value:,.{digits}f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
