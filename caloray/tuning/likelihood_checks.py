"""Whether likelihoods of trials can be compared: fields that would make the number better, not the model."""

from __future__ import annotations

__all__ = ["check_likelihood"]

from collections.abc import Sequence

from caloray.config import RunConfig
from caloray.errors import ConfigError
from caloray.schemes.inductive_config import InductiveConfig
from caloray.schemes.layerwise_config import FILL_WIDTHS
from caloray.tuning.fields import ENERGIES, changes_rows, sampling_only
from caloray.tuning.objective_settings import NLLObjective
from caloray.tuning.settings import TuneConfig

NOISES = ("voxel_noise", "energy_noise")
FILLING = ("fill_mean", "fill_std")
HINT = "choose a metric as objective, or take it out of the space"


def check_likelihood(settings: TuneConfig, base: RunConfig, components: Sequence[str]) -> None:
    """Refuse a searched field under which the objective nll means another thing in every trial.

    Raises:
        ConfigError: With the reason.
    """
    likelihoods = [isinstance(item, NLLObjective) for item in settings.single_objectives]
    if not any(likelihoods):
        return
    voxels = [name for name in components if name != ENERGIES]
    if voxels and isinstance(base.scheme, InductiveConfig) and base.scheme.voxel_space == "share":
        raise ConfigError(
            f"objective: nll has no bound for {voxels[0]}, which sees shares of a layer (scheme.voxel_space: "
            "share): they sum to one, and a flow may become as sharp there as its spline lets it",
            hint="set: {scheme.voxel_space: log}, or choose a metric as objective",
        )
    for name in settings.space:
        if changes_rows(name):
            raise ConfigError(
                f"space.{name}: it decides whether empty layers are rows of their own, and likelihoods of "
                "other rows cannot be compared",
                hint=HINT,
            )
        if sampling_only(base, name) and all(likelihoods):
            raise ConfigError(
                f"space.{name}: it only changes how showers are drawn, which the objective nll does not see",
                hint=HINT,
            )
        if name == "scheme.voxel_space":
            raise ConfigError(
                f"space.{name}: shares of a layer sum to one, so that their density has no bound and "
                "cannot be compared with one in the space log",
                hint=HINT,
            )
        if name == "scheme.max_layer_energy" and ENERGIES in components:
            raise ConfigError(
                f"space.{name}: showers above it have no density, and those below it the better one the "
                "lower it is",
                hint="take it out of the space: the training split gives it",
            )
    _overlaps(settings, base)


def _overlaps(settings: TuneConfig, base: RunConfig) -> None:
    """What fills an empty entry must end where hits begin, or an empty one and a hit share their density."""
    threshold = _end(settings, base, "threshold", 0)
    searched = "scheme.threshold" in settings.space
    for field in NOISES:
        if not (searched or f"scheme.{field}" in settings.space) or not hasattr(base.scheme, field):
            continue
        noise = _end(settings, base, field, -1)
        if noise > threshold:
            raise ConfigError(
                f"space.scheme.{field if f'scheme.{field}' in settings.space else 'threshold'}: noise up to "
                f"{noise:g} MeV on empty entries reaches above the threshold of {threshold:.4g} MeV, where a "
                "likelihood takes them for hits",
                hint="end the range at the threshold",
            )
    fillings = [f"scheme.{field}" for field in FILLING if f"scheme.{field}" in settings.space]
    if fillings and isinstance(base.scheme, InductiveConfig):
        upper = _end(settings, base, "fill_mean", -1) * 10 ** min(
            FILL_WIDTHS * _end(settings, base, "fill_std", -1), 300.0
        )
        if upper > threshold:
            raise ConfigError(
                f"space.{fillings[0]}: the filling of empty voxels, fill_mean * 10^(3 fill_std), reaches "
                f"{upper:.3g} MeV and the threshold is {threshold:.4g} MeV: a likelihood takes it for hits",
                hint="lower the upper end of fill_mean or of fill_std",
            )


def _end(settings: TuneConfig, base: RunConfig, field: str, place: int) -> float:
    """Smallest (0) or largest (-1) value of a number of the scheme."""
    parameter = settings.space.get(f"scheme.{field}")
    if parameter is None:
        return float(getattr(base.scheme, field))
    return sorted(float(value) for value in parameter.ends)[place]
