"""A campaign carried out: planned, watched, tracked, in this process or on Ray.

The command line, the job script and notebooks call the same functions. A campaign that was interrupted goes
on where it stopped when it is carried out again. Without workers nothing of Ray is loaded.
"""

from __future__ import annotations

__all__ = ["OpenCampaign", "control_of", "open_campaign", "produce_campaign", "sampler_of", "trial_sampler"]

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from caloray.atomic import write_json
from caloray.bundle import Bundle
from caloray.config import Campaign, ClusterConfig
from caloray.distributed.journal import Journal
from caloray.errors import CaloRayError, ConfigError, InterruptedRunError
from caloray.generation.campaign import plan_campaign
from caloray.generation.claim import CONFIG
from caloray.generation.control import QUALITY, QualityControl
from caloray.generation.plan import PLAN, GenerationPlan
from caloray.generation.receipts import Receipt
from caloray.generation.run import Observer, generate
from caloray.generation.shard import Progress
from caloray.interrupt import watch_signals
from caloray.io.manifest import MANIFEST, Manifest
from caloray.tracking import NullTracker, Tracker, open_tracker
from caloray.tracking.background import BackgroundTracker

_LOG = logging.getLogger(__name__)
GRACE = 0.5


@dataclass(frozen=True)
class OpenCampaign:
    """A campaign that can be carried out.

    Args:
        campaign: What, by whom and where.
        model: Its model.
        plan: Its plan; a list of particles is in the directory.
        directory: Its output directory.
        control: Who watches the showers, if anybody does.
    """

    campaign: Campaign
    model: Bundle
    plan: GenerationPlan
    directory: Path
    control: QualityControl | None


def open_campaign(
    campaign: Campaign, ids: Sequence[int] | None = None, spelled: Sequence[str] = ("CAMPAIGN.yaml",)
) -> OpenCampaign:
    """Plan a campaign and lay claim to its directory.

    Args:
        campaign: What, by whom and where.
        ids: Make only the showers with these ids.
        spelled: The words behind ``caloray produce`` that name the campaign, for messages.

    Raises:
        ConfigError: The campaign cannot be carried out; nothing has been made.
        DataError: A list of particles that cannot be read, or is unphysical.
        StorageError: The directory is another campaign's, is in use, or has no room.
        IntegrityError: The directory's plan is damaged.
        InterruptedRunError: After SIGTERM or SIGINT.
    """
    directory = campaign.output.absolute()
    model = sampler_of(campaign)
    control = control_of(campaign, model, directory)
    with watch_signals(grace=GRACE, what="planning"):
        plan, unused = plan_campaign(campaign, model, directory, ids, spelled=spelled)
        write_json(directory / CONFIG, described(campaign))
    if unused:
        _LOG.info("the model makes no use of: %s", ", ".join(unused))
    return OpenCampaign(campaign, model, plan, directory, control)


def produce_campaign(work: OpenCampaign, progress: Progress | None = None) -> Manifest:
    """Make every shower of a campaign that is not there yet.

    Args:
        work: The campaign.
        progress: Called with the number of planned showers that are done since the last call.

    Raises:
        StorageError: The directory is in use, or the disk is full.
        NumericalError: Invalid showers, or showers that drift from the reference and shall not.
        ClusterError: Workers kept dying.
        InterruptedRunError: After SIGTERM or SIGINT; the same call continues.
    """
    directory, control = work.directory, work.control
    with _tracked(work) as tracker:
        journal = Journal(directory, tracker, control.metrics if control is not None else dict)
        observer = _Together(journal) if control is None else _Together(control, journal)
        try:
            manifest = _carry_out(work, observer, progress)
        except BaseException:  # whatever ended it, MLflow shall show how far it was, and what was wrong
            with suppress(CaloRayError):
                journal.facts()
            _attach(tracker, directory, QUALITY)
            raise
        tracker.summary(journal.summary() | _timing(manifest))
        _attach(tracker, directory, PLAN, MANIFEST, QUALITY)
    return manifest


def _attach(tracker: Tracker, directory: Path, *names: str) -> None:
    for name in names:
        if (directory / name).is_file():
            tracker.artifact(name, directory / name)


def sampler_of(campaign: Campaign) -> Bundle:
    """The campaign's model where this process samples with it, or only plans."""
    here = campaign.workers.count == 0
    device = "cuda" if here and campaign.workers.gpus else "cpu"
    return Bundle.load(campaign.bundle, device, campaign.workers.backend if here else "auto")


def trial_sampler(campaign: Campaign) -> tuple[Bundle, bool]:
    """The model as its workers would sample with it, and False where only their machines could."""
    wanted = campaign.workers
    if wanted.gpus and wanted.count != 0:
        import torch

        if not torch.cuda.is_available():
            return Bundle.load(campaign.bundle), False
    return Bundle.load(campaign.bundle, "cuda" if wanted.gpus else "cpu", wanted.backend), True


def described(campaign: Campaign) -> dict[str, Any]:
    """The campaign with every default filled in, without credentials in its tracking URI."""
    value: dict[str, Any] = campaign.model_dump(mode="json")
    value["tracking"].pop("uri", None)
    return value


class _Together:
    """Several observers as one."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def add(self, receipt: Receipt, /, *, new: bool) -> None:
        """Show it to each, in order; what one of them has to say against it comes when all have seen it."""
        complaints: list[CaloRayError] = []
        for observer in self._observers:
            try:
                observer.add(receipt, new=new)
            except CaloRayError as error:
                complaints.append(error)
        if complaints:
            raise complaints[0]

    def caught_up(self) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.caught_up()

    def facts(self) -> dict[str, Any]:
        """What they say, one after the other."""
        found: dict[str, Any] = {}
        for observer in self._observers:
            found |= observer.facts()
        return found


def control_of(campaign: Campaign, model: Bundle, directory: Path) -> QualityControl | None:
    """Who watches the showers; nobody where that is not wanted, or the bundle has no reference.

    Raises:
        ConfigError: Drift shall stop the campaign, and the bundle has no reference.
        BundleError: The reference is damaged.
    """
    settings = campaign.quality
    if not settings.enabled:
        return None
    if model.quality is not None:
        return QualityControl(model.quality, settings, directory)
    hint = f"make one with `caloray model reference {campaign.bundle}`"
    if settings.on_drift == "stop":
        message = f"{campaign.bundle}: no quality reference, so no drift could stop the campaign"
        raise ConfigError(message, hint=f"{hint}, or set quality.on_drift or quality.enabled otherwise")
    _LOG.warning("%s: no quality reference, the showers are not watched; %s", campaign.bundle, hint)
    return None


def _carry_out(work: OpenCampaign, observer: Observer, progress: Progress | None) -> Manifest:
    wanted, model, plan, directory = work.campaign.workers, work.model, work.plan, work.directory
    if wanted.count == 0:
        reference = model.quality if work.control is not None else None
        with watch_signals(grace=GRACE, what="production") as stop:
            return generate(model, plan, directory, progress, stop, observer, reference)
    from caloray.distributed.generate import GenerationLoad, generate_with_ray
    from caloray.distributed.session import connect

    load = GenerationLoad(wanted.cpus, wanted.gpus, wanted.count, wanted.backend, wanted.max_restarts)
    with connect(_cluster(work.campaign)) as session:
        counted, bundle = work.control is not None, work.campaign.bundle
        return generate_with_ray(session, bundle, plan, directory, progress, load, observer, counted=counted)


def _cluster(campaign: Campaign) -> ClusterConfig:
    """A local Ray has room for the workers that are asked for, whatever the machine has."""
    wanted, cluster = campaign.workers, campaign.cluster
    if cluster.num_cpus is not None or wanted.count is None:
        return cluster
    return cluster.model_copy(update={"num_cpus": max(1, ceil(wanted.count * wanted.cpus))})


@contextmanager
def _tracked(work: OpenCampaign) -> Iterator[Tracker]:
    """The campaign's run in MLflow, closed as what happens in the block deserves."""
    campaign, plan = work.campaign, work.plan
    if not campaign.tracking.enabled:
        yield NullTracker()
        return
    tracker = BackgroundTracker(open_tracker(work.directory, campaign.tracking))
    facts = {"plan": plan.digest, "bundle_digest": plan.bundle_digest, "showers": plan.rows}
    tracker.start(campaign.name, [], described(campaign) | facts)
    try:
        yield tracker
    except (InterruptedRunError, KeyboardInterrupt, SystemExit):
        tracker.close("KILLED")
        raise
    except BaseException:
        tracker.close("FAILED")
        raise
    tracker.close("FINISHED")


def _timing(manifest: Manifest) -> dict[str, float]:
    timing = manifest.created.get("timing", {})
    return {f"worker_{name}": float(value) for name, value in timing.items() if value is not None}
