"""What every unbinned distance asks of its two arrays before it starts."""

from __future__ import annotations

__all__ = ["FEWEST", "check_rows", "scaled"]

import numpy as np

from caloray.errors import DataError

FEWEST = 100


def check_rows(metric: str, reference: np.ndarray, generated: np.ndarray, fewest: int = FEWEST) -> None:
    """Refuse what has no distance.

    Args:
        metric: Its name, for the message.
        reference: (N, F) one row per shower.
        generated: (M, F).
        fewest: Showers needed on either side.

    Raises:
        DataError: Other shapes, too few showers, or an entry that is not finite.
    """
    for side, rows in (("reference", reference), ("generated", generated)):
        if rows.ndim != 2 or rows.shape[1] != reference.shape[-1] or not rows.shape[1]:
            raise DataError(
                f"{metric}: {side} sample has shape {rows.shape}, reference {reference.shape}; "
                "expected (showers, features) with equally many features",
                hint="compute the features of both samples with the same geometry",
            )
        if len(rows) < fewest:
            raise DataError(
                f"{metric}: {side} sample has {len(rows)} showers, at least {fewest} are needed",
                hint="give more showers; a few thousand make a meaningful comparison",
            )
        _check_finite(metric, side, rows)


def _check_finite(metric: str, side: str, rows: np.ndarray) -> None:
    for start in range(0, len(rows), 4096):
        good = np.isfinite(rows[start : start + 4096])
        if not good.all():
            row, column = np.argwhere(~good)[0]
            raise DataError(
                f"{metric}: {side} sample, shower {start + row}, column {column} is "
                f"{rows[start + row, column]}, expected a number",
                hint="look for NaN and for incident energies of zero in the input",
            )


def scaled(reference: np.ndarray, generated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both samples in units of the largest absolute value that the reference has in each feature.

    As FPD and KPD take them (Kansal et al., arXiv:2211.10295, and its code jetnet). A feature that is zero
    in the whole reference keeps its unit.

    Args:
        reference: (N, F).
        generated: (M, F).

    Returns:
        New arrays of the same shapes, float64.
    """
    largest = np.maximum(np.max(reference, axis=0), -np.min(reference, axis=0)).astype(np.float64)
    largest[largest == 0] = 1.0
    return reference / largest, generated / largest
