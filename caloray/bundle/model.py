"""A trained model, ready to sample."""

from __future__ import annotations

__all__ = ["Bundle"]

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nflows.flows.base import Flow

from caloray import __version__
from caloray.bundle.pieces import Packing, Piece, Rows
from caloray.bundle_file import BundleFile, load_flow, load_quality, load_tensors, read_bundle_file
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
    require_rows,
)
from caloray.preprocess.energy_range import outside
from caloray.quality.reference import QualityReference
from caloray.rng import StreamKey
from caloray.schemes.build import Scheme, build_scheme
from caloray.schemes.component import Sampled
from caloray.schemes.draws import one_thread
from caloray.schemes.streams import BlockStreams
from caloray.showers import Showers


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
    def largest_response(self) -> float:
        """Largest energy of a shower of the training split, in units of its incident energy."""
        return self.file.statistics.max_ratio

    @cached_property
    def hits_per_shower(self) -> float | None:
        """Mean number of hit voxels of the golden showers; None for a bundle without them."""
        golden = None if self.file.golden is None else load_tensors(self.file.golden, self.path).get("voxels")
        return None if golden is None else float((golden > 0).sum(dim=1, dtype=torch.float64).mean())

    @cached_property
    def quality(self) -> QualityReference | None:
        """What productions are held against; None for a bundle without."""
        return load_quality(self.path, self.file)

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
        """What :meth:`sample_block` gives, with layer energies, vetoed draws and log density."""
        drawn = self.draw(energies, seed, block, attempt, conditions)
        with one_thread():
            return self.finish(drawn)

    @property
    def joint_sizes(self) -> tuple[int, ...]:
        """Sizes of the batches of :meth:`make_pieces`, ascending; the last is that of a block."""
        return self._packing.sizes

    def make_pieces(self, pieces: Sequence[Piece]) -> list[Sampled]:
        """Pieces of blocks, drawn together: each bit for bit what :meth:`make_block` gives for its rows.

        They are put one behind the other and cut into batches of at most a block; the last batch is filled
        up to the next of :attr:`joint_sizes`. On back-ends that need every row at its own place in a whole
        block (:class:`caloray.bundle.pieces.Packing`), rows of the same place come into batches of their own.

        Args:
            pieces: Any number of any requests and blocks; one may be asked for twice. Their energies may lie
                outside the trained range.

        Returns:
            What came of each, in order. Rows for which a component gave no finite number hold NaN: that a
            whole block failed, which :meth:`make_block` tells, cannot be known from some of its rows.

        Raises:
            ConfigError: A piece has no rows or some that no block has, or other conditions than the model.
        """
        for piece in pieces:
            piece.require(self.block_size, self.condition_names)
        if not pieces:
            return []
        rows, made, order = Rows.of(pieces), [], []
        for chosen, places in self._packing.batches(rows.rows):
            made.append(self._drawn(rows.take(chosen)).take(places))
            order.append(chosen[places])
        drawn = Sampled.joined(made).take(np.concatenate(order).argsort())
        stops = np.cumsum([len(piece.energies) for piece in pieces]).tolist()
        return [drawn.take(slice(start, stop)) for start, stop in zip([0, *stops], stops, strict=False)]

    @cached_property
    def _packing(self) -> Packing:
        return Packing.of(self.backend, self.block_size, self.geometry.layer_sizes[0])

    def _drawn(self, rows: Rows) -> Sampled:
        with one_thread():
            streams = rows.streams(self.block_size)
            return self.finish(self.scheme.sample(self.flows, rows.energies, streams, rows.conditions))

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
        streams = BlockStreams(StreamKey(seed, "", "", block, attempt))
        with one_thread():
            drawn = self.scheme.sample(self.flows, padded, streams, conditions)
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
        strange = values[outside(values, (low, high))]
        if strange.size:
            found = strange[0]
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


def _require_device(device: str) -> None:
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(
            f"device {device}: torch sees no GPU",
            hint="run `caloray doctor`, or sample on the CPU (without --gpus, generation.gpus: 0)",
        )


def _filled_up(rows: np.ndarray, size: int) -> np.ndarray:
    """``rows`` with its last one repeated up to ``size``."""
    return np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])
