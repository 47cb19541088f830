"""The logistic turn-on with a plateau."""

from __future__ import annotations

__all__ = ["FEWEST_POINTS", "TurnOn", "fit_turn_on", "points_on_slope"]

from dataclasses import dataclass, replace

import numpy as np

FEWEST_POINTS = 4
STEEPEST = 0.05  # least width, as a share of the smallest step between distances
LEAST_RISE = 0.1
WORST_RESIDUAL = 0.2
EDGE = 0.05


@dataclass(frozen=True)
class TurnOn:
    """P(d) = base + (plateau - base) / (1 + exp(-(d - d50) / width)).

    Args:
        d50: Where the curve is halfway between base and plateau [mm].
        width: Of the logistic [mm]; the curve climbs from 12 to 88 % of its height in 4 widths.
        plateau: P at large distances, at most 1.
        base: P at small distances: the point at d = 0 where there is one, else 0.
        residual: Largest distance of a point from the curve; the turn-on of a real detector is only roughly
            logistic.
    """

    d50: float
    width: float
    plateau: float
    base: float
    residual: float = 0.0

    def __call__(self, distances: np.ndarray) -> np.ndarray:
        """(D,) values at (D,) distances [mm]."""
        exponent = np.clip((self.d50 - distances) / self.width, -60.0, 60.0)
        return np.asarray(self.base + (self.plateau - self.base) / (1.0 + np.exp(exponent)))


def fit_turn_on(distances: np.ndarray, probability: np.ndarray, noise: float) -> TurnOn | None:
    """Least-squares fit of d50, width and plateau, all points with equal weight.

    Points at 0 or 1 have tiny binomial errors; weighted with them, they would decide the fit of a curve that
    is not quite logistic.

    Args:
        distances: (D,) ascending [mm].
        probability: (D,) shares of resolved pairs.
        noise: Statistical error of a typical point.

    Returns:
        The fit; None for fewer than 4 points, or where the points do not hold a turn-on: d50 not between the
        distances, a rise below 0.1 or 5 times the noise, a point 0.2 off the curve, none on the slope.
    """
    from scipy.optimize import least_squares

    if len(distances) < FEWEST_POINTS:
        return None
    base = float(probability[0]) if distances[0] == 0 else 0.0
    top = float(probability.max())
    halfway = int(np.argmax(probability >= 0.5 * (base + top)))
    step = float(np.diff(distances).min())
    middle = 0.5 * (distances[halfway] + distances[max(0, halfway - 1)])
    start = np.array([middle, np.log(0.3 * step), np.arcsin(np.sqrt(min(top, 0.98)))])
    least = STEEPEST * step

    def curve(parameters: np.ndarray) -> TurnOn:
        d50, log_width, angle = (float(value) for value in parameters)
        width = least + float(np.exp(min(log_width, 20.0)))
        return TurnOn(d50, width, float(np.sin(angle) ** 2), base)

    def residuals(parameters: np.ndarray) -> np.ndarray:
        return np.asarray(curve(parameters)(distances) - probability)

    found = least_squares(residuals, start, method="lm", xtol=1e-6, ftol=1e-8, max_nfev=400)
    fit = curve(found.x)
    residual = float(np.abs(residuals(found.x)).max())
    risen = fit.plateau - base > max(LEAST_RISE, 5 * noise)
    inside = distances[0] < fit.d50 < distances[-1] and fit.width < distances[-1] - distances[0]
    if not (risen and inside and residual < WORST_RESIDUAL and points_on_slope(fit, probability)):
        return None
    return replace(fit, residual=residual)


def points_on_slope(fit: TurnOn, probability: np.ndarray) -> int:
    """How many of the (D,) points lie between 5 and 95 % of the rise."""
    height = (probability - fit.base) / (fit.plateau - fit.base)
    return int(((height > EDGE) & (height < 1 - EDGE)).sum())
