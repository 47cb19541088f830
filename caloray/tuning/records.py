"""Whether the records of a ledger are those of a campaign's own settings and data."""

from __future__ import annotations

__all__ = ["require_own"]

from caloray.config import RunConfig
from caloray.errors import CaloRayError, IntegrityError
from caloray.tuning.ledger import Ledger, Trial
from caloray.tuning.resolve import (
    assigned,
    base_run,
    component_names,
    epochs_of,
    full_epochs,
    rung_shares,
    trial_digest,
    with_epochs,
)
from caloray.tuning.settings import TuneConfig


def require_own(
    settings: TuneConfig, ledger: Ledger, base: RunConfig | None = None, data_digest: str | None = None
) -> None:
    """Refuse records that these settings cannot have given, before anything is built on them.

    Args:
        settings: The campaign.
        ledger: Its trials.
        base: The run config that is searched around, where it is read already.
        data_digest: Hash of the data; None leaves the trials' digests alone.

    Raises:
        IntegrityError: Values, epochs or rung of a trial are not of this campaign, its digest is another
            one's, or a result has other objectives; with the file.
        ConfigError: The run config cannot be read.
    """
    base = base or base_run(settings)
    components = component_names(settings, base)
    shares = rung_shares(settings, full_epochs(base, components))
    results = ledger.results()
    for trial in ledger.trials():
        path = ledger.folder(trial.number) / "trial.json"
        wrong = _wrong(settings, base, components, shares, trial, data_digest)
        if wrong:
            raise IntegrityError(
                f"{path}: {wrong}", hint="bring the file back, or begin in another output directory"
            )
        result = results.get(trial.number)
        if result is not None and result.complete and set(result.objectives) != set(settings.objective_names):
            path = path.with_name("result.json")
            raise IntegrityError(
                f"{path}: objectives {', '.join(result.objectives)}, the campaign's are "
                f"{', '.join(settings.objective_names)}",
                hint=f"remove {path}: the trial is then carried on from its checkpoint",
            )


def _wrong(
    settings: TuneConfig,
    base: RunConfig,
    components: tuple[str, ...],
    shares: tuple[float, ...],
    trial: Trial,
    data_digest: str | None,
) -> str:
    if trial.rung >= len(shares):
        return f"rung {trial.rung}, the campaign's last one is {len(shares) - 1}"
    wanted = set(settings.space) if trial.kind == "search" else set(trial.assignment) & set(settings.space)
    if set(trial.assignment) != wanted:
        return f"values of {', '.join(trial.assignment) or 'nothing'}, not of the searched fields"
    try:
        run = assigned(base, trial.assignment)
        share = shares[trial.rung] if trial.kind == "search" else 1.0
        epochs = epochs_of(run, components, share)
        if trial.epochs != epochs:
            return f"epochs {trial.epochs}, expected {epochs} on rung {trial.rung}"
        digest = trial_digest(
            with_epochs(settings, run, epochs, trial.seed), components, data_digest or trial.digest
        )
    except (CaloRayError, ValueError) as error:
        return f"the run config refuses its values ({str(error).splitlines()[0]:.80})"
    if data_digest is not None and trial.digest != digest:
        return "its digest is not that of its settings and of the data: it was changed, or is another run's"
    return ""
