"""Settings of the classifier tests, and the two sets of settings that have a name."""

from __future__ import annotations

__all__ = [
    "PRESETS",
    "ClassifierConfig",
    "DnnConfig",
    "Input",
    "Model",
    "ResnetConfig",
    "TreesConfig",
    "preset",
]

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from caloray.errors import ConfigError

Input = Literal["low", "low-normed", "high"]
Model = Literal["dnn", "resnet", "trees"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Optimisation(_Section):
    """Adam without a schedule, as in the CaloChallenge's evaluation (arXiv:2410.21611, sec. 4).

    Args:
        epochs: Passes over the training part.
        batch: Showers per step.
        learning_rate: Of Adam.
        dtype: Precision of weights and inputs.
    """

    epochs: int = Field(50, ge=1)
    batch: int = Field(1000, ge=2)
    learning_rate: float = Field(2e-4, gt=0)
    dtype: Literal["float32", "float64"] = "float64"


class DnnConfig(_Optimisation):
    """The fully connected network.

    Args:
        width: Units of each hidden layer.
        hidden: Hidden layers; the challenge's ``n_layer`` is one less.
    """

    width: int = Field(2048, ge=1)
    hidden: int = Field(3, ge=1)


class ResnetConfig(_Optimisation):
    """The three-dimensional residual network with 18 layers.

    Args:
        planes: Channels of its four stages.
    """

    planes: tuple[int, int, int, int] = (32, 64, 64, 128)


class TreesConfig(_Section):
    """Gradient-boosted trees (scikit-learn's HistGradientBoostingClassifier).

    Args:
        iterations: Most trees; the number that is kept is the one with the best loss on the second part.
        learning_rate: Shrinkage.
        leaves: Most leaves of a tree.
        leaf_showers: Fewest showers in a leaf.
        penalty: L2 regularisation of the leaf values.
        columns: Share of the columns that each split may choose from.
        seeds: Trainings; None takes the common number. Trees are cheap.
    """

    iterations: int = Field(300, ge=1)
    learning_rate: float = Field(0.1, gt=0)
    leaves: int = Field(15, ge=2)
    leaf_showers: int = Field(20, ge=1)
    penalty: float = Field(1.0, ge=0)
    columns: float = Field(0.3, gt=0, le=1)
    seeds: int | None = Field(None, ge=3)


class ClassifierConfig(_Section):
    """Which classifiers are trained, and how.

    The default values are the CaloChallenge's.

    Args:
        inputs: What the fully connected network sees. The residual network always sees the voxels divided
            by the incident energy, the trees always the high-level features.
        models: Kinds of classifiers.
        seeds: Trainings of each, with new weights, a new split and new batches (at least 3: floors need a
            spread).
        split: Relative sizes of the parts for training, for the choice of the epoch and the calibration,
            and for the result; None takes the challenge's for the geometry.
        most: Most showers of either kind; None takes all.
        device: "auto" takes a GPU where there is one.
        dnn: The fully connected network.
        resnet: The residual network.
        trees: The boosted trees.
    """

    inputs: tuple[Input, ...] = ("low", "low-normed", "high")
    models: tuple[Model, ...] = ("dnn", "resnet", "trees")
    seeds: int = Field(10, ge=3)
    split: tuple[int, int, int] | None = None
    most: int | None = Field(None, ge=1)
    device: str = "auto"
    dnn: DnnConfig = DnnConfig()
    resnet: ResnetConfig = ResnetConfig()
    trees: TreesConfig = TreesConfig()

    @model_validator(mode="after")
    def _sensible(self) -> ClassifierConfig:
        for name in ("inputs", "models"):
            chosen = getattr(self, name)
            if len(set(chosen)) != len(chosen):
                raise ValueError(f"{name} names something twice: {', '.join(chosen)}")
        if "dnn" in self.models and not self.inputs:
            raise ValueError("models has dnn, but inputs is empty")
        if self.split is not None and min(self.split) < 1:
            raise ValueError(f"split {self.split}: each part needs a size of 1 or more")
        return self


PRESETS: dict[str, ClassifierConfig] = {
    "official": ClassifierConfig(),
    "laptop": ClassifierConfig(
        seeds=3,
        most=5000,
        device="cpu",
        dnn=DnnConfig(width=256, epochs=25, batch=100, learning_rate=5e-4, dtype="float32"),
        resnet=ResnetConfig(planes=(8, 16, 16, 32), epochs=10, batch=50, learning_rate=1e-3, dtype="float32"),
        trees=TreesConfig(seeds=5),
    ),
    "trees": ClassifierConfig(models=("trees",), seeds=5, most=20_000),
}


def preset(name: str) -> ClassifierConfig:
    """The settings called ``name``.

    "official" is the CaloChallenge's protocol; it wants a GPU and about 100,000 showers of either kind.
    "laptop" is smaller in every direction, so that a few thousand showers take minutes on two cores; "trees"
    trains only boosted trees on the high-level features. Numbers of these two can be compared with one
    another and with their floors, not with published ones.

    Raises:
        ConfigError: There are none of this name.
    """
    if name not in PRESETS:
        raise ConfigError(
            f"classifier settings {name!r} are not known", hint=f"known: {', '.join(sorted(PRESETS))}"
        )
    return PRESETS[name]
