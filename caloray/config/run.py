"""The run config: one YAML file is one complete run.

Every section is the settings class of the room that carries it out.
"""

from __future__ import annotations

__all__ = ["EvaluationConfig", "GenerationConfig", "RunConfig", "WorkerConfig", "load_config"]

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, Field, model_validator

from caloray.config.cluster import ClusterConfig, Section
from caloray.config.reading import did_you_mean, read_settings
from caloray.evaluation.settings import MetricSettings
from caloray.flows.names import Backend
from caloray.generation.energies import EnergySpec
from caloray.io.ingest_plan import IngestConfig
from caloray.schemes.build import SchemeConfig
from caloray.schemes.inductive_config import InductiveConfig
from caloray.schemes.layerwise_config import layer_name
from caloray.tracking import TrackingConfig
from caloray.training.config import TrainingConfig

_NUMBERED = re.compile(r"layers?[-_ ]?(\d{1,4})")
_Setting = TypeVar("_Setting", bound=BaseModel)


class WorkerConfig(Section):
    """Resources of one component's training.

    Args:
        workers: Data-parallel workers; each batch is divided among them.
        cpus: CPUs of each worker, also its number of torch threads (at least one).
        gpus: GPUs of each worker; fractions share one.
        max_failures: Restarts after a lost worker.
    """

    workers: int = Field(1, ge=1)
    cpus: float = Field(1.0, gt=0)
    gpus: float = Field(0.0, ge=0)
    max_failures: int = Field(3, ge=0)


class GenerationConfig(Section):
    """The showers that a run makes for its own evaluation.

    Args:
        n: How many; None makes as many as there are incident energies.
        energies: Their incident energies; None takes those of the split that the evaluation compares with.
        seed: Seed of the showers.
        blocks_per_shard: Blocks in one shard.
        workers: Ray workers; 0 generates in the driver's process.
        gpus: GPUs (or the fraction of one) of each worker; in the driver's process, any number above 0 means
            its GPU.
        backend: What inverts the flows: "auto" takes the fastest exact one that each machine has (`caloray
            doctor` lists them).
        allow_extrapolation: Permit ``energies`` outside the trained range, which ends at the outermost
            showers of the training split.
        hdf5: Also write ``showers.hdf5`` in the CaloChallenge's format.
    """

    n: int | None = Field(None, ge=1)
    energies: EnergySpec | None = None
    seed: int = Field(0, ge=0)
    blocks_per_shard: int = Field(8, ge=1)
    workers: int = Field(0, ge=0)
    gpus: float = Field(0.0, ge=0)
    backend: Backend = "auto"
    allow_extrapolation: bool = False
    hdf5: bool = True


class EvaluationConfig(Section):
    """How the generated showers are compared with the held-out ones.

    Args:
        split: Split of the reference.
        threshold: Voxels below it are zero in both samples [MeV]; None takes the challenge's for the
            geometry.
        seed: Seed of the random halves behind the floors, of all draws and classifiers.
        metrics: What is measured beyond histograms and means.
        figures: Draw figures and the page.
    """

    split: Literal["train", "validation", "test"] = "test"
    threshold: float | None = Field(None, ge=0)
    seed: int = Field(0, ge=0)
    metrics: MetricSettings = MetricSettings()
    figures: bool = True


class RunConfig(Section):
    """One complete run: data, scheme, training, generation, evaluation, and where it all happens.

    Args:
        name: Name of the run in MLflow and on Ray.
        seed: Seed of initial weights, permutations, shuffles and training noise.
        output: The run's directory.
        data: Input files, split, policy; shards are made in ``<output>/shards``.
        scheme: Factorisation, preprocessing and architectures.
        training: Settings of each component's training; a key is a component (``layer_07``) or a group of
            them (``layer``), and the component's own name wins.
        workers: Resources of each component's training, with the same keys.
        block_size: Showers per block of the bundle.
        generation: Showers made after training.
        evaluation: Comparison with the held-out split.
        tracking: MLflow.
        cluster: Ray.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    seed: int = Field(1, ge=0, lt=2**63)
    output: Path
    data: IngestConfig
    scheme: SchemeConfig = InductiveConfig()
    training: Mapping[str, TrainingConfig] = {}
    workers: Mapping[str, WorkerConfig] = {}
    block_size: int = Field(256, ge=1, le=1 << 16)
    generation: GenerationConfig = GenerationConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    tracking: TrackingConfig = TrackingConfig()
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="before")
    @classmethod
    def _named_components(cls, value: Any) -> Any:
        """A number as a key is told as what it is: no component."""
        for section in ("training", "workers") if isinstance(value, dict) else ():
            names = value.get(section) or {}
            for name in names if isinstance(names, dict) else ():
                if not isinstance(name, str):
                    raise ValueError(f"{section}.{name}: no such component")  # noqa: TRY004
        return value

    @model_validator(mode="after")
    def _known_components(self) -> RunConfig:
        for section, names in (("training", self.training), ("workers", self.workers)):
            for name in names:
                if not self.scheme.accepts(name):
                    raise ValueError(
                        f"{section}.{name}: no such component{_meant_component(name, self.scheme)}"
                    )
        return self

    def training_of(self, component: str) -> TrainingConfig:
        """Training settings of one component: its own, its group's, or the defaults."""
        return _setting(self.training, self.scheme, component) or TrainingConfig()

    def workers_of(self, component: str) -> WorkerConfig:
        """Resources of one component: its own, its group's, or the defaults."""
        return _setting(self.workers, self.scheme, component) or WorkerConfig()


def _setting(section: Mapping[str, _Setting], scheme: SchemeConfig, component: str) -> _Setting | None:
    group = scheme.group_of(component)
    return section.get(component) or (section.get(group) if group is not None else None)


def _meant_component(name: str, scheme: SchemeConfig) -> str:
    number = _NUMBERED.fullmatch(name)
    if number is not None and scheme.accepts(proper := layer_name(int(number[1]))):
        return f", did you mean {proper!r}?"
    return did_you_mean(name, scheme.component_groups)


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a run config.

    Args:
        path: YAML file.
        overrides: ``dotted.name=value`` items, the value in YAML.

    Raises:
        ConfigError: Unreadable file, unknown key (with a suggestion), or a value out of range.
    """
    return read_settings(path, RunConfig, overrides)
