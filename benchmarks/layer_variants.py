"""One flow per layer, one started from its neighbour, or one for all layers: likelihood against CPU seconds.

    python benchmarks/layer_variants.py configs/par04_l2l.yaml --epochs 6,60 --shared-epochs 6

Needs the config's shards (`caloray run` makes them). Every variant is trained on the same showers with the
same settings; an epoch of the shared flow costs as much as one of every own flow. Losses are held-out
nats per voxel of one layer, with the standard error of the mean over showers.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from caloray.config import RunConfig, load_config
from caloray.distributed.run_directory import RunDirectory
from caloray.io.manifest import Manifest
from caloray.io.store import LayerStore
from caloray.preprocess.statistics import TrainingStatistics
from caloray.rng import StreamKey
from caloray.schemes.layerwise import LayerwiseScheme
from caloray.schemes.layerwise_config import LayerwiseConfig, layer_name
from caloray.training.files import ComponentFolder
from caloray.training.run import TrainRequest, train_component
from caloray.training.warm import WarmStart

SHARED = "layers"


@dataclass(frozen=True)
class Trained:
    """One trained component and what it cost."""

    name: str
    folder: Path
    cpu: float


@dataclass(frozen=True)
class Entry:
    """One line of the table."""

    variant: str
    layer: int
    nats: float
    error: float
    cpu: float


class Study:
    """Shards, statistics and schemes of one config."""

    def __init__(self, config: RunConfig, scratch: Path) -> None:
        if not isinstance(config.scheme, LayerwiseConfig):
            raise SystemExit("the config's scheme is not layerwise")
        self.config, self.settings, self.scratch = config, config.scheme, scratch
        shards = RunDirectory.of(config).shards
        manifest = Manifest.load(shards)
        self.paths = {s: [shards / e.path for e in manifest.of(s)] for s in ("train", "validation")}
        self.geometry = manifest.readout
        self.scratch.mkdir(parents=True, exist_ok=True)
        everything = self.store("train", range(self.geometry.n_layers))
        self.statistics = TrainingStatistics.of(
            everything.layer_energies,
            everything.incident_energies,
            everything.conditions,
            voxel_maxima=everything.layer_maxima,
        )

    def store(self, split: str, layers: Sequence[int]) -> LayerStore:
        """Showers of one split, some layers of them."""
        return LayerStore.from_shards(self.paths[split], self.geometry, tuple(layers))

    def scheme(self, name: str) -> LayerwiseScheme:
        """The scheme that has the component ``name``."""
        network = "shared" if name == SHARED else "per-layer"
        settings = self.settings.model_copy(update={"network": network})
        return LayerwiseScheme(settings, self.geometry, self.statistics, self.config.seed)

    def train(self, name: str, epochs: int, source: Trained | None = None) -> Trained:
        """Train one component, or take it from an earlier call."""
        part = self.scheme(name).component(name)
        chosen = self.config.training.get("layer") or self.config.training[SHARED]
        origin = f"-from-{source.folder.name}" if source else ""
        folder = ComponentFolder(self.scratch / f"{name}-{epochs}{origin}")
        settings = chosen.model_copy(update={"epochs": epochs})
        request = TrainRequest(part, settings, folder.path, self.config.seed)
        if source is not None:
            weights = ComponentFolder(source.folder).weights_file
            record = ComponentFolder(source.folder).result()
            if record is None:
                raise SystemExit(f"{source.folder} holds no finished training")
            request = replace(request, warm=WarmStart(source.name, weights, record.sha256))
        clock = self.scratch / f"{folder.path.name}.json"
        start = time.process_time()
        train_component(request, self.store("train", part.layers), self.store("validation", part.layers))
        if not clock.exists():
            clock.write_text(json.dumps(time.process_time() - start))
        return Trained(name, folder.path, json.loads(clock.read_text()))

    @torch.no_grad()
    def entry(self, variant: str, trained: Trained, layer: int) -> Entry:
        """Held-out loss of one layer, the same noise for every variant."""
        part = self.scheme(trained.name).component(trained.name)
        flow = part.build()
        flow.load_state_dict(ComponentFolder(trained.folder).weights(), strict=False)
        flow.eval()
        store = self.store("validation", part.layers)
        rows = part.rows(store)
        rows = rows[rows[:, 1] == store.layers.index(layer)]
        draws = torch.Generator().manual_seed(StreamKey(self.config.seed, "study", str(layer)).seed64())
        target, context = part.batch(store, rows, draws)
        nats = -flow.log_prob(target, context).double().numpy() / part.features
        cpu = trained.cpu / (self.geometry.n_layers if trained.name == SHARED else 1)
        return Entry(variant, layer, float(nats.mean()), float(nats.std() / math.sqrt(len(nats))), cpu)


def measure(study: Study, layers: Sequence[int], epochs: Sequence[int], shared: Sequence[int]) -> list[Entry]:
    """All variants; trainings that are done already are not repeated."""
    entries = []
    for count in epochs:
        for layer in layers:
            own = study.train(layer_name(layer), count)
            entries.append(study.entry(f"own flow, {count} epochs", own, layer))
    for count in epochs:
        warm = study.train(layer_name(layers[0]), max(epochs))
        for layer in layers[1:]:
            warm = study.train(layer_name(layer), count, warm)
            entries.append(study.entry(f"own flow, {count} epochs from the layer before", warm, layer))
    for count in shared:
        trained = study.train(SHARED, count)
        entries += [study.entry(f"shared flow, {count} epochs", trained, layer) for layer in layers]
    return entries


def show(entries: Sequence[Entry]) -> None:
    """A Markdown table: every layer, then the means over the layers that all variants have."""
    print("| variant | layer | held-out nats per voxel | CPU s per layer |\n|---|---|---|---|")
    for e in entries:
        print(f"| {e.variant} | {e.layer} | {e.nats:.4f} ± {e.error:.4f} | {e.cpu:.0f} |")
    first = min(e.layer for e in entries)
    for variant in dict.fromkeys(e.variant for e in entries):
        own = [e for e in entries if e.variant == variant and e.layer > first]
        nats, cpu = np.mean([e.nats for e in own]), np.mean([e.cpu for e in own])
        print(f"| {variant} | mean of {first + 1} to {max(e.layer for e in own)} | {nats:.4f} | {cpu:.0f} |")


def main() -> None:
    """Train, measure, print."""

    def numbers(text: str) -> list[int]:
        return [int(item) for item in text.split(",") if item]

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--layers", default="8-11", help="two or more neighbours")
    parser.add_argument("--epochs", type=numbers, default=[6])
    parser.add_argument("--shared-epochs", type=numbers, default=[])
    parser.add_argument("--scratch", type=Path, default=Path("build/layer_variants"))
    given = parser.parse_args()
    first, last = (int(number) for number in given.layers.split("-"))
    study = Study(load_config(given.config), given.scratch)
    show(measure(study, range(first, last + 1), given.epochs, given.shared_epochs))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
