"""The run config: one YAML file is one complete run.

Every section is the settings class of the room that carries it out. Unknown keys are refused with a
suggestion, values are checked before anything starts, and ``a.b=c`` overrides are parsed as YAML.
"""

from __future__ import annotations

__all__ = [
    "ClusterConfig",
    "EvaluationConfig",
    "GenerationConfig",
    "RunConfig",
    "WorkerConfig",
    "load_config",
]

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from caloray.errors import ConfigError
from caloray.evaluation.settings import MetricSettings
from caloray.flows.names import Backend
from caloray.generation.energies import EnergySpec
from caloray.io.ingest_plan import IngestConfig
from caloray.schemes.build import SchemeConfig
from caloray.schemes.inductive_config import InductiveConfig
from caloray.schemes.layerwise_config import layer_name
from caloray.tracking import TrackingConfig
from caloray.training.config import TrainingConfig

MAX_YAML = 1 << 20
_NUMBERED = re.compile(r"layers?[-_ ]?(\d{1,4})")
_SCHEMES = ("inductive", "layerwise")
_Setting = TypeVar("_Setting", bound=BaseModel)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ClusterConfig(_Section):
    """Which Ray to use.

    Args:
        address: "local" starts a small one on this machine; "auto" or host:port joins a running one.
            Inside a job submitted to a cluster the job's own Ray is joined whatever stands here.
        num_cpus: Logical CPUs of a local Ray; None takes the machine's.
        object_store_gb: Shared memory of a local Ray [GB].
        allow_unauthenticated: Join a Ray that other machines can reach although it asks for no token.
        max_trainers: Components that train at the same time, at most; None: as many as CPUs, GPUs and memory
            have room for on the nodes that are there. On a running cluster that grows on demand a number is
            asked for at once, whether there is room or not; with None it is asked for no more than its nodes
            hold now, and does not grow for more trainers: give a number there.
    """

    address: str = "local"
    num_cpus: int | None = Field(None, ge=1)
    object_store_gb: float = Field(1.0, gt=0)
    allow_unauthenticated: bool = False
    max_trainers: int | None = Field(None, ge=1)


class WorkerConfig(_Section):
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


class GenerationConfig(_Section):
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


class EvaluationConfig(_Section):
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


class RunConfig(_Section):
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
    return _did_you_mean(name, scheme.component_groups)


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a run config.

    Args:
        path: YAML file.
        overrides: ``dotted.name=value`` items, the value in YAML.

    Raises:
        ConfigError: Unreadable file, unknown key (with a suggestion), or a value out of range.
    """
    value = _read(path)
    for item in overrides:
        _override(value, item)
    try:
        return RunConfig.model_validate(value)
    except ValidationError as error:
        raise _config_error(path, error) from error


class _StrictLoader(yaml.SafeLoader):
    """The safe loader, but a key that stands twice in one mapping is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse repeated keys (YAML 1.2, section 3.2.1.3: keys are unique)."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_YAML:
            raise ConfigError(
                f"{path}: larger than {MAX_YAML} bytes", hint="a run config is a short YAML file"
            )
        value = _StrictLoader(path.read_text()).get_single_data()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise ConfigError(f"{path}: cannot be read ({reason})", hint="see configs/ for examples") from error
    except (yaml.YAMLError, RecursionError) as error:
        first = str(error).replace("\n", " ")
        raise ConfigError(f"{path}: not valid YAML ({first})") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected a mapping at the top, found {type(value).__name__}")
    return value


def _override(value: dict[str, Any], item: str) -> None:
    name, sign, text = item.partition("=")
    keys = name.split(".")
    if not sign or not all(keys):
        raise ConfigError(f"--set {item!r}: expected dotted.name=value", hint="e.g. --set seed=2")
    for key in keys[:-1]:
        inner = value.setdefault(key, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {item!r}: {key} is a value, not a section")
        value = inner
    try:
        value[keys[-1]] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {item!r}: {text!r} is not valid YAML") from error


def _config_error(path: Path, error: ValidationError) -> ConfigError:
    problems = error.errors(include_url=False, include_input=True)
    first = problems[0]
    where = ".".join(str(part) for part in _place(first["loc"]))
    if first["type"] == "extra_forbidden":
        message = (
            f"unknown key {where}{_did_you_mean(str(first['loc'][-1]), sorted(_field_names(RunConfig)))}"
        )
    elif first["type"] == "union_tag_invalid":
        known = first["ctx"]["expected_tags"]
        message = f"{where}.kind: {first['ctx']['tag']!r:.200} is none of {known}{_meant(first)}"
    elif first["type"] == "missing":
        message = f"missing key {where}"
    else:
        detail = first["msg"].removeprefix("Value error, ")
        found = "" if isinstance(first["input"], dict | list) else f" (found {first['input']!r:.200})"
        message = f"{where + ': ' if where else ''}{detail}{found}{_meant(first)}"
    more = f"; and {len(problems) - 1} more" if len(problems) > 1 else ""
    return ConfigError(f"{path}: {message}{more}", hint="`caloray config schema` lists every key")


def _place(loc: Sequence[int | str]) -> Sequence[int | str]:
    """The keys as they stand in the file, without the name of the scheme that pydantic puts between them."""
    return [loc[0], *loc[2:]] if len(loc) > 1 and loc[0] == "scheme" and loc[1] in _SCHEMES else loc


def _meant(problem: Mapping[str, Any]) -> str:
    """The choice that a wrong word is close to."""
    context = problem.get("ctx", {})
    word, known = problem["input"], context.get("expected")
    if problem["type"] == "union_tag_invalid":
        word, known = context.get("tag"), context.get("expected_tags")
    if known is None or not isinstance(word, str):
        return ""
    close = difflib.get_close_matches(word, str(known).split("'")[1::2], n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return (
        f", did you mean {close[0]!r}?" if close else f", known: {', '.join(known)}" if len(known) < 8 else ""
    )


def _field_names(model: type[BaseModel]) -> set[str]:
    found: set[str] = set()
    for name, info in model.model_fields.items():
        found.add(name)
        found |= _nested_names(info.annotation)
    return found


def _nested_names(annotation: Any) -> set[str]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _field_names(annotation)
    return (
        set().union(*(_nested_names(part) for part in get_args(annotation)))
        if get_args(annotation)
        else set()
    )
