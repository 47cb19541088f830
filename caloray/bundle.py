"""Bundles: one trained model, whole, in a directory that anyone can check and sample from.

A bundle holds ``bundle.json`` (scheme, fitted preprocessing, geometry, hashes, provenance), one
safetensors file of weights per component and ``golden.safetensors``, a few showers with the request that
made them. Nothing in it is executable and nothing is unpickled; masks and degrees are rebuilt from the
config, permutations are stored.

    from caloray.bundle import Bundle
    bundle = Bundle.load("runs/demo/bundle")
    showers = bundle.sample([1000.0, 5000.0], seed=1)
    showers.voxels.sum(axis=1)
"""

from __future__ import annotations

__all__ = ["Bundle", "GoldenReport", "make_golden", "save_bundle", "verify_bundle"]

import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nflows.flows.base import Flow
from safetensors.torch import save_file
from torch import Tensor

from caloray import __version__
from caloray.atomic import sha256_file, staging_directory
from caloray.bundle_file import (
    FORMAT,
    BundleFile,
    GoldenEntry,
    GoldenReport,
    load_flow,
    load_tensors,
    read_bundle_file,
    save_component,
    write_bundle_file,
)
from caloray.errors import BundleError, ConfigError
from caloray.flows.freeze import freeze
from caloray.flows.inverse import Backend, fingerprint, resolve
from caloray.geometry import Geometry
from caloray.postprocess.steps import apply
from caloray.preprocess.conditions import (
    ConditionRange,
    ParticleMap,
    columns_of,
    condition_table,
    inside_ranges,
    require_rows,
)
from caloray.preprocess.statistics import TrainingStatistics
from caloray.rng import StreamKey
from caloray.schemes.build import Scheme, SchemeConfig, build_scheme
from caloray.schemes.component import Sampled
from caloray.schemes.draws import one_thread
from caloray.showers import Showers

GOLDEN_SHOWERS = 16
EDGE = 1e-6
"""Relative slack at the edges of the trained range: float32 files do not hold 1e3 exactly."""


@dataclass(frozen=True)
class Bundle:
    """A trained model, ready to sample.

    Args:
        path: Its directory.
        file: The checked content of ``bundle.json``.
        scheme: The factorisation, with fitted preprocessing.
        flows: The trained flow of each component, in evaluation mode.
        backend: What inverts them, with "auto" resolved.
    """

    path: Path
    file: BundleFile
    scheme: Scheme
    flows: Mapping[str, Flow]
    backend: Backend

    @staticmethod
    def load(path: str | Path, device: str = "cpu", backend: Backend = "auto") -> Bundle:
        """Open a bundle and verify the hash of every file.

        Args:
            path: Its directory.
            device: Where to sample ("cpu", "cuda", "cuda:1").
            backend: What inverts the flows; "auto" takes the fastest exact one
                (:mod:`caloray.flows.inverse`).

        Raises:
            BundleError: A file is missing, altered, unsafe, a pickle, or of a newer format.
            ConfigError: ``device`` is a GPU that torch does not see, or ``backend`` is not available there.
        """
        _require_device(device)
        backend = resolve(backend, device)
        directory = Path(path)
        file = read_bundle_file(directory)
        scheme = build_scheme(file.scheme, file.readout, file.statistics, file.seed)
        flows = {
            name: load_flow(directory, scheme, name, entry, device) for name, entry in file.components.items()
        }
        missing = set(scheme.components) - set(flows)
        if missing:
            raise BundleError(f"{directory}: no weights for component {', '.join(sorted(missing))}")
        for flow in flows.values():
            freeze(flow, backend)
        return Bundle(directory, file, scheme, flows, backend)

    @cached_property
    def geometry(self) -> Geometry:
        """The readout."""
        return self.file.readout

    @property
    def digest(self) -> str:
        """The bundle's name: a hash over everything that determines its showers."""
        return self.file.digest

    @property
    def block_size(self) -> int:
        """Showers per block, the unit of randomness and numerics."""
        return self.file.block_size

    @property
    def device(self) -> str:
        """Where the flows are ("cpu", "cuda:0")."""
        return str(next(next(iter(self.flows.values())).parameters()).device)

    @property
    def numerics(self) -> dict[str, str]:
        """What bit-identity depends on besides the request: versions, device, back-end, CPU capability."""
        kind = self.device.partition(":")[0]
        return {
            "caloray": __version__,
            "torch": str(torch.__version__).partition("+")[0],
            "numpy": np.__version__,
            "device": kind,
            "hardware": torch.cuda.get_device_name(self.device) if kind == "cuda" else platform.machine(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "backend": fingerprint(self.backend),
        }

    @property
    def energy_range(self) -> tuple[float, float]:
        """Smallest and largest incident energy of the training split [MeV]."""
        return self.file.statistics.min_incident, self.file.statistics.max_incident

    @property
    def info(self) -> dict[str, Any]:
        """Provenance: data, training summary, versions."""
        return self.file.info

    @property
    def condition_names(self) -> tuple[str, ...]:
        """Further scalars of the particle that the model needs besides the incident energy, in its order."""
        return self.scheme.conditions

    @property
    def condition_ranges(self) -> dict[str, tuple[float, float]]:
        """Smallest and largest value of each of them in the training split."""
        return {item.name: (item.low, item.high) for item in self.conditions}

    @property
    def conditions(self) -> tuple[ConditionRange, ...]:
        """Name, unit and trained range of each of them."""
        return ParticleMap.of(self.condition_names, self.file.statistics.conditions).conditions

    def sample_block(
        self,
        energies: np.ndarray,
        seed: int,
        block: int,
        attempt: int = 0,
        conditions: np.ndarray | None = None,
    ) -> np.ndarray:
        """Showers of one block; the bytes depend on the arguments alone. Its post-processing is done.

        A short block is filled up with its last energy, so that the arithmetic is that of a whole one, and
        torch runs on one thread meanwhile, so that the number of cores does not matter.

        Args:
            energies: (n,) incident energies [MeV], 1 <= n <= block_size.
            seed: The request's seed.
            block: Index of the block.
            attempt: Number of the redraw.
            conditions: (n, P) float64 in the order of :attr:`condition_names`; None for a model without.

        Returns:
            (n, n_voxels) float32 [MeV].

        Raises:
            ConfigError: There are no energies, more than fit into a block, or other conditions than the
                model has.
            NumericalError: A component gave no finite number.
        """
        return self.make_block(energies, seed, block, attempt, conditions).voxels

    def make_block(
        self,
        energies: np.ndarray,
        seed: int,
        block: int,
        attempt: int = 0,
        conditions: np.ndarray | None = None,
    ) -> Sampled:
        """What :meth:`sample_block` gives, with the layer energies and the number of vetoed draws."""
        drawn = self.draw(energies, seed, block, attempt, conditions)
        with one_thread():
            return self.finish(drawn)

    def finish(self, drawn: Sampled) -> Sampled:
        """Post-processed showers, on the threads that torch has."""
        steps = self.file.postprocess
        return replace(drawn, voxels=apply(steps, drawn.voxels, drawn.layer_energies, self.geometry))

    def draw(
        self,
        energies: np.ndarray,
        seed: int,
        block: int,
        attempt: int = 0,
        conditions: np.ndarray | None = None,
    ) -> Sampled:
        """What :meth:`sample_block` gives before post-processing, with the layer energies."""
        count = len(energies)
        if not 1 <= count <= self.block_size:
            raise ConfigError(f"a block takes 1 to {self.block_size} energies, got {count}")
        padded = _filled_up(energies, self.block_size)
        if conditions is not None or self.condition_names:
            require_rows(self.condition_names, conditions, count)
            conditions = None if conditions is None else _filled_up(conditions, self.block_size)
        key = StreamKey(seed, "", "", block, attempt)
        with one_thread():
            drawn = self.scheme.sample(self.flows, padded, key, conditions)
        return drawn.take(slice(count))

    def sample(
        self,
        energies: Sequence[float] | np.ndarray,
        seed: int = 0,
        conditions: Mapping[str, Sequence[float] | np.ndarray] | None = None,
    ) -> Showers:
        """Showers for the given incident energies [MeV], in order.

        Args:
            energies: (n,) incident energies [MeV].
            seed: Of the request.
            conditions: Values (n,) of every condition of the model by name; the showers carry them.

        Raises:
            ConfigError: An energy or a condition lies outside the trained range, or the conditions are not
                those of the model.
        """
        values = np.asarray(energies, dtype=np.float64).reshape(-1)
        low, high = self.energy_range
        outside = ~((values >= low * (1 - EDGE)) & (values <= high * (1 + EDGE)))
        if outside.any():
            found = values[outside][0]
            raise ConfigError(
                f"incident energy {found:g} MeV is outside the trained range {low:g} to {high:g} MeV",
                hint="choose energies inside the range, or sample_block, which does not check it",
            )
        table = condition_table(self.conditions, conditions or {}, len(values))
        blocks = []
        for index, start in enumerate(range(0, len(values), self.block_size)):
            rows = slice(start, start + self.block_size)
            chosen = None if table is None else table[rows]
            blocks.append(self.sample_block(values[rows], seed, index, conditions=chosen))
        voxels = np.concatenate(blocks) if blocks else np.empty((0, self.geometry.n_voxels), np.float32)
        columns = columns_of(self.condition_names, table)
        return Showers(values, voxels, np.arange(len(values)), columns)


def save_bundle(
    directory: Path,
    *,
    config: SchemeConfig,
    geometry: Geometry,
    statistics: TrainingStatistics,
    seed: int,
    weights: Mapping[str, Mapping[str, Tensor]],
    block_size: int = 256,
    info: Mapping[str, Any] | None = None,
) -> Bundle:
    """Write a bundle, complete or not at all; an older one of that name is replaced.

    Args:
        directory: Where.
        config: Settings of the scheme.
        geometry: The readout.
        statistics: Extremes of the training split.
        seed: Seed of the training run.
        weights: State dict of every component.
        block_size: Showers per block.
        info: Provenance; must not hold times or hosts if equal trainings are to give equal bundles.
    """
    scheme = build_scheme(config, geometry, statistics, seed)
    with staging_directory(directory) as temporary:
        (temporary / "components").mkdir()
        entries = {name: save_component(temporary, scheme, name, weights[name]) for name in scheme.components}
        file = BundleFile(
            format=FORMAT,
            caloray=__version__,
            scheme=config,
            seed=seed,
            statistics=statistics,
            geometry=geometry.to_dict(),
            geometry_digest=geometry.digest,
            block_size=block_size,
            components=entries,
            golden=None,
            info=dict(info or {}),
        )
        write_bundle_file(temporary, file)
        golden = make_golden(temporary)
        write_bundle_file(temporary, file.model_copy(update={"golden": golden}))
        if directory.exists():
            shutil.rmtree(directory)
    return Bundle.load(directory)


def verify_bundle(path: str | Path) -> GoldenReport:
    """Check every hash, sample the golden showers again and compare.

    Raises:
        BundleError: As :meth:`Bundle.load`; or the golden showers are missing or deviate by more than 1e-3.
    """
    golden = read_bundle_file(Path(path)).golden
    if golden is None:
        raise BundleError(f"{path}: bundle.json has no golden sample")
    bundle = Bundle.load(path, backend=golden.backend())
    table = golden.table(bundle.condition_names)
    found = bundle.sample_block(np.array(golden.energies), golden.seed, 0, conditions=table)
    stored = load_tensors(golden, bundle.path).get("voxels", torch.empty(0)).numpy()
    if stored.shape != found.shape:
        raise BundleError(f"{bundle.path / golden.path}: voxels {stored.shape}, expected {found.shape}")
    total = np.maximum(stored.sum(axis=1), 1e-12)
    report = GoldenReport(
        identical=bool(np.array_equal(stored, found)),
        largest=float(np.abs(found - stored).max()),
        relative=float((np.abs(found.sum(axis=1) - stored.sum(axis=1)) / total).max()),
        same_numerics=golden.numerics == bundle.numerics,
        backend=bundle.numerics["backend"],
        made_with=golden.numerics.get("backend", "torch"),
    )
    if not report.identical and (report.same_numerics or report.relative > 1e-3):
        raise BundleError(
            f"{bundle.path}: golden showers deviate by {report.largest:.3g} MeV in a voxel, "
            f"{report.relative:.3g} in a shower's energy",
            hint="this installation computes something else than the one that made it; run `caloray doctor`",
        )
    return report


def _require_device(device: str) -> None:
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(
            f"device {device}: torch sees no GPU",
            hint="run `caloray doctor`, or sample on the CPU (without --gpus, generation.gpus: 0)",
        )


def make_golden(directory: Path) -> GoldenEntry:
    """Draw the golden showers of a bundle that is whole but for them, and write them into it."""
    bundle = Bundle.load(directory)
    low, high = bundle.energy_range
    energies = np.exp(np.linspace(np.log(low), np.log(high), min(GOLDEN_SHOWERS, bundle.block_size)))
    energies = energies.clip(low, high)
    table, draws = None, StreamKey(0, "golden", "conditions").generator()
    if bundle.conditions:
        table = inside_ranges(bundle.conditions, draws, len(energies))
    voxels = bundle.sample_block(energies, seed=0, block=0, conditions=table)
    file = directory / "golden.safetensors"
    save_file({"voxels": torch.from_numpy(np.ascontiguousarray(voxels))}, file)
    return GoldenEntry(
        path=file.name,
        sha256=sha256_file(file),
        bytes=file.stat().st_size,
        seed=0,
        energies=tuple(energies.tolist()),
        numerics=bundle.numerics,
        conditions={}
        if table is None
        else {
            name: tuple(column.tolist()) for name, column in zip(bundle.condition_names, table.T, strict=True)
        },
    )


def _filled_up(rows: np.ndarray, size: int) -> np.ndarray:
    """``rows`` with its last one repeated up to ``size``."""
    return np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])
