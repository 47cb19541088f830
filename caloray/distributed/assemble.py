"""From finished components to the bundle."""

from __future__ import annotations

__all__ = ["assemble_bundle"]

from collections.abc import Mapping
from typing import Any

from caloray.bundle import Bundle, save_bundle
from caloray.config import RunConfig
from caloray.distributed.run_directory import RunDirectory
from caloray.errors import BundleError
from caloray.io.manifest import Manifest
from caloray.preprocess.statistics import TrainingStatistics
from caloray.training.files import ComponentFolder, ComponentResult


def assemble_bundle(
    config: RunConfig,
    run: RunDirectory,
    manifest: Manifest,
    statistics: TrainingStatistics,
    results: Mapping[str, ComponentResult],
) -> Bundle:
    """Write ``<output>/bundle``, unless it is there already, made of the same components.

    Equal trainings give equal bundles: no times, hosts or paths go in.
    """
    info = _provenance(config, manifest, results)
    there = _existing(run)
    if there is not None and there.info == info and there.block_size == config.block_size:
        return there
    return save_bundle(
        run.bundle,
        config=config.scheme,
        geometry=manifest.readout,
        statistics=statistics,
        seed=config.seed,
        weights={name: ComponentFolder(run.component(name)).weights() for name in results},
        block_size=config.block_size,
        info=info,
    )


def _existing(run: RunDirectory) -> Bundle | None:
    try:
        return Bundle.load(run.bundle)
    except BundleError:
        return None


def _provenance(
    config: RunConfig, manifest: Manifest, results: Mapping[str, ComponentResult]
) -> dict[str, Any]:
    return {
        "run": config.name,
        "data": {
            "request": manifest.created.get("request", ""),
            "sources": [{"name": s.get("name"), "sha256": s.get("sha256")} for s in manifest.sources],
            "split": manifest.split,
            "showers": manifest.counts,
        },
        "training": {name: _facts(config, name, result) for name, result in results.items()},
    }


def _facts(config: RunConfig, name: str, result: ComponentResult) -> dict[str, Any]:
    settings = config.training_of(name).model_dump(mode="json", exclude={"warm_start"})
    return {
        "config": settings,
        **({"warm_start": result.warm_start} if result.warm_start else {}),
        "epochs": result.epochs,
        "selected_epoch": result.selected_epoch,
        "validation_loss": result.validation_loss,
        "weights": result.sha256,
    }
