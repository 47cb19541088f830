"""The directory of one run: where its parts lie, and how it is started afresh."""

from __future__ import annotations

__all__ = ["RunDirectory"]

import shutil
from dataclasses import dataclass
from pathlib import Path

from caloray.atomic import write_json
from caloray.config import RunConfig
from caloray.tracking import STATE


@dataclass(frozen=True)
class RunDirectory:
    """Paths below the ``output`` of a run config."""

    path: Path

    @staticmethod
    def of(config: RunConfig) -> RunDirectory:
        """The directory of ``config``, absolute because workers may stand elsewhere."""
        return RunDirectory(config.output.absolute())

    @property
    def shards(self) -> Path:
        """Ingested Geant4 showers."""
        return self.path / "shards"

    @property
    def statistics(self) -> Path:
        """What preprocessing learned from the training split."""
        return self.path / "statistics.json"

    @property
    def bundle(self) -> Path:
        """The trained model."""
        return self.path / "bundle"

    @property
    def showers(self) -> Path:
        """Generated showers as shards."""
        return self.path / "showers"

    @property
    def hdf5(self) -> Path:
        """Generated showers as one CaloChallenge file."""
        return self.path / "showers.hdf5"

    @property
    def results(self) -> Path:
        """The comparison with held-out showers."""
        return self.path / "results.json"

    @property
    def figures(self) -> Path:
        """Its figures."""
        return self.path / "figures"

    @property
    def page(self) -> Path:
        """Results and figures on one page."""
        return self.path / "report.html"

    @property
    def stop_file(self) -> Path:
        """Where the driver asks training workers to stop."""
        return self.path / "stop"

    def component(self, name: str) -> Path:
        """One component's training."""
        return self.path / "components" / name

    def write_config(self, config: RunConfig) -> None:
        """Keep the resolved config beside its results, without credentials in its tracking URI."""
        described = config.model_dump(mode="json")
        described["tracking"].pop("uri", None)
        write_json(self.path / "config.json", described)

    def discard(self) -> None:
        """Forget what was trained and everything made from it; ingested shards and MLflow's files stay."""
        for folder in (self.path / "components", self.path / "ray", self.bundle, self.showers, self.figures):
            shutil.rmtree(folder, ignore_errors=True)
        files = (self.statistics, self.hdf5, self.results, self.page, self.stop_file)
        for file in (self.path / STATE, *files):
            file.unlink(missing_ok=True)
