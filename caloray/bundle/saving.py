"""Writing a bundle."""

from __future__ import annotations

__all__ = ["save_bundle"]

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from caloray import __version__
from caloray.atomic import staging_directory
from caloray.bundle.golden import make_golden
from caloray.bundle.model import Bundle
from caloray.bundle_file import FORMAT, BundleFile, save_component, write_bundle_file
from caloray.geometry import Geometry
from caloray.preprocess.statistics import TrainingStatistics
from caloray.schemes.build import SchemeConfig, build_scheme


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
