"""What the group size, the degrees and the context's way cost in likelihood, on held-out Geant4 showers.

    python benchmarks/autoregressive_step.py SHARDS OUT [--component layer_energies] [--seeds 3] [--epochs N]

SHARDS is a directory of dataset-2 shards (``caloray run`` leaves one in its output). Every variant is trained
with the same rows, number of steps, learning-rate schedule and width, once for each seed (initial weights,
permutations, order of the rows and noise); the figure is the mean negative log-likelihood of the test split
per dimension, with the same noise for all of them. The floor of a difference is the spread over the seeds,
printed beside it. What is finished is kept in OUT: the same command continues.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from caloray.atomic import write_json
from caloray.flows.maf import MAFConfig
from caloray.geometry import load_geometry
from caloray.io.store import LayerStore
from caloray.preprocess.statistics import TrainingStatistics
from caloray.schemes.build import build_scheme
from caloray.schemes.component import Component
from caloray.schemes.inductive_config import InductiveConfig, InductiveFlows
from caloray.training.config import TrainingConfig
from caloray.training.files import ComponentFolder
from caloray.training.rows import RowPlan
from caloray.training.run import TrainRequest, train_component
from caloray.training.schedule import OneCycle

GEOMETRY = load_geometry("ds2")
SHAPES = {
    "layer_energies": MAFConfig(blocks=8, hidden=128, hidden_layers=2, dropout=0.1),
    "next_layer": MAFConfig(blocks=4, hidden=256, hidden_layers=2),
}
TRAINING = {
    "layer_energies": TrainingConfig(
        epochs=20,
        batch=256,
        optimizer="adamw",
        weight_decay=0.01,
        select="last",
        clip=100,
        schedule=OneCycle(max_lr=2e-3, pct_start=0.3),
        validation_rows=700,
        checkpoint_steps=None,
    ),
    "next_layer": TrainingConfig(
        epochs=1,
        batch=512,
        select="last",
        clip=500,
        schedule=OneCycle(max_lr=2e-3, pct_start=0.3),
        validation_rows=4000,
        checkpoint_steps=None,
    ),
}
NARROW = {"layer_energies": (32, 13), "next_layer": (96, 41)}
"""Widths below the dimension; the second is as narrow as the published dataset-3 model (256 of 900)."""
TEST_ROWS = 20_000


@dataclass(frozen=True)
class Trained:
    """One trained variant.

    Args:
        variant: Its name in the table.
        seed: Of the initial weights, the permutations, the order of the rows and the noise.
        nll: Mean negative log-likelihood of the test rows per dimension [nats].
        parameters: Number of trainable parameters.
        steps: Sequential steps of one MADE's inverse.
        seconds: Duration of the training.
    """

    variant: str
    seed: int
    nll: float
    parameters: int
    steps: int
    seconds: float


def variants(component: str) -> dict[str, dict[str, object]]:
    """Changes to the architecture by name; the first is what the others are compared with."""
    features = GEOMETRY.n_layers if component == "layer_energies" else GEOMETRY.layer_sizes[1]
    sizes = [4, 16, -(-features // 2)]
    narrow = {
        f"p=1, H={width}, {degrees} degrees": {"hidden": width, "degrees": degrees}
        for width in NARROW[component]
        for degrees in ("nflows", "spread")
    }
    return {
        "p=1, context in first": {"context_output": "first"},
        **{f"p={p}, context in first": {"autoregressive_step": p, "context_output": "first"} for p in sizes},
        "p=1, context in none (published)": {},
        "p=1, context in all": {"context_output": "all"},
        **narrow,
    }


@dataclass(frozen=True)
class Data:
    """The splits and the statistics of the training split."""

    training: LayerStore
    validation: LayerStore
    test: LayerStore
    statistics: TrainingStatistics

    @staticmethod
    def of(shards: Path) -> Data:
        """Read all splits; the statistics are those of the training split."""
        parts = {}
        for split in ("train", "validation", "test"):
            files = sorted((shards / split).glob("*.parquet"))
            parts[split] = LayerStore.from_shards(files, GEOMETRY, range(GEOMETRY.n_layers))
        train = parts["train"]
        statistics = TrainingStatistics.of(train.layer_energies, train.incident_energies)
        return Data(train, parts["validation"], parts["test"], statistics)


def build(component: str, change: dict[str, object], statistics: TrainingStatistics, seed: int) -> Component:
    flow = SHAPES[component].model_copy(update=change)
    config = InductiveConfig(augment="rotate", flows=InductiveFlows(**{component: flow}))
    return build_scheme(config, GEOMETRY, statistics, seed).component(component)


def held_out(component: Component, weights: dict[str, torch.Tensor], test: LayerStore) -> tuple[float, int]:
    """Mean negative log-likelihood per dimension, and the steps of one inverse."""
    flow = component.build().eval()
    flow.load_state_dict(weights)
    plan = RowPlan(component, test, 1000, seed=0)
    losses = []
    with torch.no_grad():
        for rows, key in plan.fixed_batches(TEST_ROWS):
            target, context = plan.fixed_batch(rows, key)
            losses.append(-flow.log_prob(target, context).double())
    return float(torch.cat(losses).mean()) / component.features, len(
        flow._transform._transforms[0].schedule().steps
    )


def train(
    options: argparse.Namespace, name: str, change: dict[str, object], seed: int, data: Data
) -> Trained:
    directory = options.out / options.component / f"{name.replace(' ', '_').replace('/', '')}-{seed}"
    component = build(options.component, change, data.statistics, seed)
    config = TRAINING[options.component]
    if options.epochs:
        config = config.model_copy(update={"epochs": options.epochs})
    request = TrainRequest(component, config, directory, seed, {"variant": name})
    result = train_component(request, data.training, data.validation)
    nll, steps = held_out(component, ComponentFolder(directory).weights(), data.test)
    return Trained(name, seed, nll, component.parameters, steps, result.seconds)


def table(results: list[Trained]) -> str:
    """Markdown: mean over the seeds, spread of one seed, difference to the first variant with its error."""
    names = list(dict.fromkeys(r.variant for r in results))
    base = np.array([r.nll for r in results if r.variant == names[0]])
    lines = ["| variant | steps | parameters | test NLL per dimension | seed spread | minus the first |"]
    lines.append("|---|---|---|---|---|---|")
    for name in names:
        rows = [r for r in results if r.variant == name]
        nll = np.array([r.nll for r in rows])
        spread = nll.std(ddof=1) if len(nll) > 1 else float("nan")
        error = (
            np.hypot(nll.std(ddof=1), base.std(ddof=1)) / np.sqrt(len(nll)) if len(nll) > 1 else float("nan")
        )
        change = "" if name == names[0] else f"{nll.mean() - base.mean():+.4f} ± {error:.4f}"
        sizes = f"{rows[0].steps} | {rows[0].parameters:,}"
        lines.append(f"| {name} | {sizes} | {nll.mean():.4f} | {spread:.4f} | {change} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("shards", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--component", choices=sorted(SHAPES), default="next_layer")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=0, help="instead of this benchmark's own number")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = Data.of(options.shards)
    results: list[Trained] = []
    for seed in range(1, options.seeds + 1):
        for name, change in variants(options.component).items():
            results.append(train(options, name, change, seed, data))
            print(results[-1], flush=True)
            write_json(options.out / f"{options.component}.json", {"results": [asdict(r) for r in results]})
    print(table(results))


if __name__ == "__main__":
    main()
