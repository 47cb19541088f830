"""How large a model is, counted as the CaloChallenge counts."""

from __future__ import annotations

__all__ = ["ParameterCount", "count_parameters"]

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from caloray.bundle_file import BundleFile


@dataclass(frozen=True)
class ParameterCount:
    """Trainable parameters.

    Args:
        training: Of everything that was trained to get the model.
        generation: Of what is needed to sample; these are the components of the bundle.
        components: Of each component of the bundle. Weights that the masks of a flow set to zero count, as
            they do wherever the parameters of such a network are counted by its tensors' sizes.
    """

    training: int
    generation: int
    components: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"components": dict(self.components)}


def count_parameters(file: BundleFile) -> ParameterCount:
    """Parameters of the model that a ``bundle.json`` describes.

    Every component of a bundle is trained and every one is needed to sample, so both numbers are equal.
    """
    components = {name: entry.parameters for name, entry in file.components.items()}
    total = sum(components.values())
    return ParameterCount(total, total, components)
