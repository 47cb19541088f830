"""Online quality control: integer histograms of a production, held against those of its bundle's reference.

The reference is frozen with the bundle. It knows how the mean and the spread of every observable follow the
incident energy and the direction, so that a production of any spectrum can be compared with it.
"""

from __future__ import annotations

__all__: list[str] = []
