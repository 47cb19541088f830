"""Starting a training from weights that are there already: of a neighbouring layer, a bundle, another run.

Neighbouring layers of a calorimeter are alike, and so are the flows that draw them. Every tensor of the
source whose name and shape agree is taken over, the states of normalisation layers and fixed permutations
included; masks are not, they follow from the architecture.
"""

from __future__ import annotations

__all__ = ["WarmStart", "find_source", "start_from"]

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from caloray.atomic import sha256_file
from caloray.bundle_file import read_bundle_file
from caloray.errors import CheckpointError, ConfigError
from caloray.training.files import ComponentFolder

DERIVED = (".mask", ".degrees")


@dataclass(frozen=True)
class WarmStart:
    """Weights to start from.

    Args:
        source: Where they come from, in words that hold no path.
        weights: The safetensors file.
        sha256: Its hash, which is part of the training's identity.
    """

    source: str
    weights: Path
    sha256: str


def find_source(path: Path, component: str) -> WarmStart:
    """The weights of ``component`` in a bundle or in the directory of another run.

    Raises:
        ConfigError: ``path`` is neither, or holds no trained component of this name.
        BundleError: The bundle is altered or unsafe.
        CheckpointError: The run's weights were altered.
    """
    if (path / "bundle.json").is_file():
        file = read_bundle_file(path)
        if component not in file.components:
            raise _absent(path, component, file.components)
        entry = file.components[component]
        return WarmStart(f"{component} of bundle {file.digest[:12]}", entry.checked(path), entry.sha256)
    folder = ComponentFolder(path / "components" / component)
    result = folder.result()
    if result is None:
        finished = sorted(
            record.parents[1].name for record in path.glob("components/*/result/component.json")
        )
        raise _absent(path, component, finished)
    return WarmStart(f"{component} of another run", folder.weights_file.absolute(), result.sha256)


def start_from(flow: nn.Module, warm: WarmStart) -> dict[str, str | int]:
    """Give ``flow`` the source's tensors where name and shape agree.

    Returns:
        The record of a result: "source", "sha256", and how many "tensors" of the flow's "of" agreed.

    Raises:
        CheckpointError: The file is not the one that was chosen.
        ConfigError: No tensor agrees.
    """
    if not warm.weights.is_file() or sha256_file(warm.weights) != warm.sha256:
        raise CheckpointError(
            f"{warm.weights}: missing or altered since it was chosen as a warm start",
            hint="run the same command again",
        )
    try:
        found = load_file(warm.weights)
    except SafetensorError as error:
        raise CheckpointError(f"{warm.weights}: {error}", hint="copy the source again") from error
    own = {name: value for name, value in flow.state_dict().items() if not name.endswith(DERIVED)}
    agreeing = [name for name, value in own.items() if name in found and found[name].shape == value.shape]
    if not agreeing:
        raise ConfigError(
            f"warm_start from {warm.source}: none of its {len(found)} tensors fits the flow to be trained",
            hint="choose a source of the same architecture, or warm_start: null",
        )
    with torch.no_grad():
        for name in agreeing:
            own[name].copy_(found[name])
    return {
        "source": warm.source,
        "sha256": warm.sha256,
        "tensors": len(agreeing),
        "of": len(own),
    }


def _absent(path: Path, component: str, known: object) -> ConfigError:
    names = ", ".join(known) if isinstance(known, list | dict) else ""
    return ConfigError(
        f"warm_start: {path} holds no trained component {component}" + (f", only {names}" if names else ""),
        hint="give a bundle (a directory with bundle.json) or the output directory of a run",
    )
