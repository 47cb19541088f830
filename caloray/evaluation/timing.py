"""How long a model takes per shower, by the CaloChallenge's protocol: batches of 1, 100 and 10,000.

The number is ms per shower, from incident energies to voxels in host memory, everything included, the
bundle's post-processing too. Loading
and the first call are reported apart. The protocol is the one behind the published results (arXiv:2410.21611:
ten repetitions, CPU and GPU, three batch sizes); what the paper's files do not tell and this record does
is the machine, the number of threads, and on how many showers each number rests.

    from caloray.evaluation.timing import TimingSettings, time_bundle
    record = time_bundle("runs/demo/bundle", TimingSettings(batches=(1, 100)))
    record["measurements"][0]["ms"]["median"]
"""

from __future__ import annotations

__all__ = ["BATCHES", "SCHEMA", "TimingSettings", "add_geant4", "time_bundle"]

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from caloray import __version__
from caloray.bundle import Bundle
from caloray.errors import ConfigError
from caloray.evaluation.machine import describe_machine, gpu_name, peak_memory_mb
from caloray.evaluation.parameters import count_parameters
from caloray.evaluation.stopwatch import Clock, Draw, Plan, measure
from caloray.flows.inverse import Backend, fingerprint
from caloray.io.origin import ATTRIBUTE, Geant4Time, geant4_time
from caloray.preprocess.conditions import inside_ranges
from caloray.rng import StreamKey
from caloray.schemes.streams import BlockStreams

SCHEMA = "caloray-timing/1"
BATCHES = (1, 100, 10_000)
ALIKE = 0.02
"""Relative difference up to which two ranges of energies are the same."""
PARTICLES = 4096
"""Different conditions that a timing chooses from."""
BUSY = 0.9
"""Share of a CPU below which a single thread has had to wait for it."""
ONE = 1.05
"""CPU seconds per wall second above which a single thread was not alone."""
MACHINES = "machines may differ: which one Geant4's time is from is not known"
Tell = Callable[[str], None]


@dataclass(frozen=True)
class TimingSettings:
    """What is timed, and for how long.

    A batch up to ``at_once`` is drawn as it is; a larger one in pieces of that many showers. (``caloray
    generate`` always draws whole blocks of the bundle's block size, so a request of a single shower costs it
    as much as a block.)

    Args:
        batches: Showers asked for at once.
        repetitions: How often each batch is timed.
        threads: CPU threads; the challenge's number is not known, and one makes numbers comparable.
        device: "cpu" or "cuda".
        backend: What inverts the flows.
        energies: Range of incident energies [MeV], drawn log-uniformly; the trained range when None.
        seed: Of energies and showers.
        limit: Seconds for each batch size.
        at_once: Most showers that the model sees together; None for the block size on a CPU and the whole
            batch on a GPU.

    Raises:
        ConfigError: Impossible sizes.
    """

    batches: tuple[int, ...] = BATCHES
    repetitions: int = 10
    threads: int = 1
    device: str = "cpu"
    backend: Backend = "auto"
    energies: tuple[float, float] | None = None
    seed: int = 0
    limit: float = 60.0
    at_once: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be timed."""
        sizes = {
            "batch": min(self.batches, default=0),
            "repetitions": self.repetitions,
            "threads": self.threads,
            "showers at once": 1 if self.at_once is None else self.at_once,
        }
        for name, value in sizes.items():
            if value < 1:
                raise ConfigError(f"timing: {name} {value}, expected at least 1", hint="give a larger number")
        if not self.limit > 0:
            raise ConfigError(
                f"timing: limit {self.limit} s, expected more than 0", hint="60 is a good number"
            )


def time_bundle(
    path: str | Path,
    settings: TimingSettings | None = None,
    *,
    reference: Path | None = None,
    clock: Clock | None = None,
    tell: Tell | None = None,
) -> dict[str, Any]:
    """Time a bundle on one device.

    Args:
        path: The bundle.
        settings: What is timed.
        reference: Geant4 showers that hold their CPU time, for the speed-up (:func:`add_geant4`).
        clock: Other clocks, for tests.
        tell: Called with a line before each piece of work.

    Returns:
        A record with the keys schema, caloray, bundle, geometry, parameters, machine, device, hardware,
        backend, threads, seed, energies, limit_s, load_s, measurements (of
        :func:`caloray.evaluation.stopwatch.measure`; each with ``peak_memory_mb`` and ``peak_gpu_mb``) and
        geant4 (None without reference).

    Raises:
        BundleError: As :meth:`Bundle.load`.
        ConfigError: No such device or back-end.
        DataError, IntegrityError: The reference cannot be read, or is of another readout.
    """
    settings, clock = settings or TimingSettings(), clock or Clock()
    machine = describe_machine()
    with _threads(settings.threads):
        began = clock.wall()
        bundle = Bundle.load(path, settings.device, settings.backend)
        loaded = clock.wall() - began
        geant4 = None if reference is None else geant4_time(reference, bundle.geometry)
        low, high = settings.energies or bundle.energy_range
        measurements = _measurements(bundle, (low, high), settings, clock, tell)
    record = {
        "schema": SCHEMA,
        "caloray": __version__,
        "bundle": bundle.digest,
        "geometry": {"name": bundle.geometry.name, "digest": bundle.geometry.digest},
        "parameters": count_parameters(bundle.file).to_dict(),
        "machine": machine,
        "device": settings.device,
        "hardware": gpu_name(settings.device) if _on_gpu(bundle) else machine["cpu"],
        "backend": fingerprint(bundle.backend),
        "threads": settings.threads,
        "seed": settings.seed,
        "energies": [float(low), float(high)],
        "limit_s": settings.limit,
        "load_s": loaded,
        "measurements": measurements,
        "geant4": None,
    }
    return record if reference is None else add_geant4(record, reference.name, geant4)


def add_geant4(record: dict[str, Any], reference: str, found: Geant4Time | None) -> dict[str, Any]:
    """The record of :func:`time_bundle` with the time of Geant4 and the speed-up.

    Speed-up = CPU seconds per shower that Geant4 needed for the reference (it runs on one thread) over wall
    seconds per shower of the model on one CPU thread. Runs on several threads or on a GPU get none, nor does
    a batch that used more than one CPU. The files do not tell on which machine Geant4 ran.

    Args:
        record: A timing.
        reference: What to call the Geant4 showers.
        found: Their time (:func:`caloray.io.origin.geant4_time`), None where it is not stored.

    Returns:
        The record with ``geant4``: reference, seconds (per shower, None where not stored), showers, files,
        energies, ``speed_up`` (list of batch, value, low, high) and ``note``.
    """
    if found is None:
        note = f"unknown: no number in the HDF5 attribute {ATTRIBUTE!r} (CPU seconds of the whole file)"
        return record | {"geant4": {"reference": reference, "seconds": None, "speed_up": [], "note": note}}
    alone = record["device"] == "cpu" and record["threads"] == 1
    notes = [MACHINES] if alone else [MACHINES, "speed-up is quoted for one CPU thread only"]
    timed = [item for item in record["measurements"] if item["ms"]] if alone else []
    notes += [
        f"no speed-up for batch {item['batch']:,}: it used {_share(item):.2f} CPUs"
        for item in timed
        if _share(item) > ONE
    ]
    if found.energies and not np.allclose(found.energies, record["energies"], rtol=ALIKE):
        low, high = found.energies
        notes.append(f"Geant4's time is for {low:g} to {high:g} MeV, the model's for other energies")
    facts = found.to_dict() | {"files_note": found.note, "note": "; ".join(notes)}
    ratios = [_ratio(found.seconds, item) for item in timed if _share(item) <= ONE]
    return record | {"geant4": {"reference": reference, **facts, "speed_up": ratios}}


def _ratio(seconds: float, item: dict[str, Any]) -> dict[str, Any]:
    def over(ms: float | None) -> float | None:
        return 1e3 * seconds / ms if ms else None

    ms = item["ms"]
    return {
        "batch": item["batch"],
        "value": over(ms["median"]),
        "low": over(ms["high"]),
        "high": over(ms["low"]),
    }


def _drawing(bundle: Bundle, energies: tuple[float, float], seed: int) -> Draw:
    """From incident energies to finished showers; what particles there are is not part of what is timed."""
    low, high = np.log(energies)
    key = StreamKey(seed, "timing", "energies")
    pool = None
    if bundle.conditions:
        pool = inside_ranges(bundle.conditions, key.named("timing", "conditions").generator(), PARTICLES)

    def draw(rows: int, index: int) -> np.ndarray:
        draws = key.at(index).generator()
        incident = np.exp(low + draws.random(rows) * (high - low))
        conditions = None if pool is None else pool[draws.integers(len(pool), size=rows)]
        streams = BlockStreams(StreamKey(seed, "", "", index, 0))
        return bundle.finish(bundle.scheme.sample(bundle.flows, incident, streams, conditions)).voxels

    return draw


def _measurements(
    bundle: Bundle, energies: tuple[float, float], settings: TimingSettings, clock: Clock, tell: Tell | None
) -> list[dict[str, Any]]:
    """One record per batch size, in the order asked for."""
    draw = _drawing(bundle, energies, settings.seed)
    done: list[dict[str, Any]] = []
    for batch in settings.batches:
        if tell is not None:
            tell(f"{settings.device}, batch {batch:,}")
        usual = batch if _on_gpu(bundle) else bundle.block_size
        plan = Plan(batch, settings.at_once or usual, settings.repetitions, settings.limit)
        done.append(_measured(draw, plan, clock, bundle, done, settings.threads))
    return done


def _measured(
    draw: Draw,
    plan: Plan,
    clock: Clock,
    bundle: Bundle,
    earlier: Sequence[dict[str, Any]],
    threads: int,
) -> dict[str, Any]:
    """One measurement; what earlier calls took says whether this one can be afforded."""
    if not _on_gpu(bundle):
        record = measure(draw, plan, clock, _known(earlier, plan.pieces[0]))
        note = "; ".join(filter(None, (record["note"], _disturbed(record, threads))))
        return record | {"note": note, "peak_memory_mb": peak_memory_mb(), "peak_gpu_mb": None}
    torch.cuda.reset_peak_memory_stats(bundle.device)
    record = measure(draw, plan, clock, _known(earlier, plan.pieces[0]))
    peak = torch.cuda.max_memory_allocated(bundle.device) / 1e6
    return record | {"peak_memory_mb": peak_memory_mb(), "peak_gpu_mb": peak}


def _on_gpu(bundle: Bundle) -> bool:
    return bundle.device.startswith("cuda")


def _share(record: dict[str, Any]) -> float:
    """CPUs that a measurement kept busy on average."""
    return float(record["cpu_ms"]["median"] / record["ms"]["median"])


def _disturbed(record: dict[str, Any], threads: int) -> str:
    """What other work on the machine did to a timing on the CPU, or other threads of this process."""
    if not record["ms"]:
        return ""
    share = _share(record)
    if share > ONE * threads:
        return f"not only the {threads} thread(s) asked for worked: {share:.2f} CPUs"
    return f"disturbed by other work: {share:.0%} of one CPU" if share < BUSY else ""


def _known(earlier: Sequence[dict[str, Any]], rows: int) -> tuple[int, float] | None:
    """Rows and seconds of the largest call so far that is smaller than ``rows``."""
    found = [_call(item) for item in earlier if item["first_s"] is not None]
    return max((call for call in found if call[0] < rows), default=None)


def _call(item: dict[str, Any]) -> tuple[int, float]:
    rows = int(item["first_rows"])
    return rows, rows * item["ms"]["least"] / 1e3 if item["ms"] else float(item["first_s"])


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Threads of torch, and of the linear algebra and OpenMP libraries that are loaded."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    before = torch.get_num_threads()
    with threadpool_limits(limits=number):
        torch.set_num_threads(number)
        try:
            yield
        finally:
            torch.set_num_threads(before)
