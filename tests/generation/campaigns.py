"""Small campaigns of the stub model, for the tests of productions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from caloray.generation.campaign import CampaignRequest, plan_campaign
from caloray.generation.plan import GenerationPlan
from caloray.generation.run import generate
from caloray.io.manifest import Manifest
from caloray.io.shards import ShardReader

N, SEED = 100, 7
SPECTRUM = {"kind": "spectrum", "n": N, "run": 3, "pdg": 22}


def request(output: Path, **changes: Any) -> CampaignRequest:
    """A campaign of 100 showers in shards of two blocks."""
    value = {
        "name": "toy",
        "bundle": "bundle",
        "output": output,
        "seed": SEED,
        "particles": SPECTRUM,
        "rows_per_shard": 16,
    }
    return CampaignRequest.model_validate(value | changes)


def listed(path: Path, energies: Any, **columns: Any) -> dict[str, Any]:
    """A list of particles in a file, as the campaign file names it."""
    names = ["energy", *columns]
    table = np.column_stack([energies, *columns.values()])
    rows = "\n".join(",".join(repr(float(value)) for value in row) for row in table)
    path.write_text(",".join(names) + "\n" + rows + "\n")
    return {"kind": "file", "path": path}


@dataclass(frozen=True)
class Made:
    """A production."""

    plan: GenerationPlan
    manifest: Manifest
    directory: Path

    @property
    def digest(self) -> str:
        return str(self.manifest.created["content_digest"])

    def column(self, name: str) -> np.ndarray:
        """A further column of all shards."""
        return np.concatenate([reader.read_extras()[name] for reader in self.readers()])

    def voxels(self) -> np.ndarray:
        return np.concatenate([reader.showers().voxels for reader in self.readers()])

    def ids(self) -> np.ndarray:
        return np.concatenate([reader.ids() for reader in self.readers()])

    def readers(self) -> list[ShardReader]:
        return [ShardReader(self.directory / entry.path) for entry in self.manifest.shards]


def make(model: Any, output: Path, ids: Any = None, **changes: Any) -> Made:
    """Carry out a campaign in this process."""
    plan, _ = plan_campaign(request(output, **changes), model, output, ids)
    return Made(plan, generate(model, plan, output), output)
