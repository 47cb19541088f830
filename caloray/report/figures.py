"""All figures of an evaluation, drawn from results.json alone."""

from __future__ import annotations

__all__ = ["PLATES", "Plate", "draw", "plates"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from caloray.report import histograms, images, matrices, overview, profiles, scores, timing
from caloray.report.comparison import Comparison, Record
from caloray.report.diphoton import draw_diphoton
from caloray.report.style import RC, save
from caloray.report.texts import caption_of


def _always(_: Comparison) -> bool:
    return True


@dataclass(frozen=True)
class Plate:
    """One figure of a report.

    Args:
        name: File name without ending.
        painter: Draws it.
        present: Whether the records hold what it needs.
        shaded: It has colour scales, which a small palette would spoil.
    """

    name: str
    painter: Callable[[Comparison], Figure]
    present: Callable[[Comparison], bool] = _always
    shaded: bool = False

    @property
    def title(self) -> str:
        """Heading on the page."""
        return caption_of(self.name)[0]

    @property
    def caption(self) -> str:
        """What to look at."""
        return caption_of(self.name)[1]


def _every(key: str) -> Callable[[Comparison], bool]:
    return lambda comparison: len(comparison.having(key)) == len(comparison.models)


def _any(key: str) -> Callable[[Comparison], bool]:
    return lambda comparison: bool(comparison.having(key))


PLATES = (
    Plate("00_first_look", histograms.draw_first_look),
    Plate("15_metrics", scores.draw_metrics, _any("metrics")),
    Plate("01_overview", overview.draw_overview),
    Plate("16_chi2", overview.draw_chi2, overview.has_chi2),
    Plate("14_classifiers", scores.draw_classifiers, _any("classifiers")),
    Plate("02_response", histograms.draw_response),
    Plate("02_response_per_energy", histograms.draw_per_energy, histograms.has_energies),
    Plate("03_longitudinal", histograms.draw_longitudinal),
    Plate("04_radial", histograms.draw_radial),
    Plate("11_moments", histograms.draw_moments, lambda c: any(map(c.histograms, histograms.MOMENTS))),
    Plate("05_layer_energies", histograms.draw_layer_energies),
    Plate("05_layer_energies_all", histograms.draw_every_layer),
    Plate("13_correlations", matrices.draw_correlations, _any("correlations"), shaded=True),
    Plate("06_voxel_spectrum", histograms.draw_voxel_spectrum),
    Plate("07_hits", histograms.draw_hits),
    Plate(
        "08_centres",
        lambda c: histograms.draw_shapes(c, "centre"),
        lambda c: histograms.has_shapes(c, "centre"),
    ),
    Plate(
        "09_widths", lambda c: histograms.draw_shapes(c, "width"), lambda c: histograms.has_shapes(c, "width")
    ),
    Plate("10_average_shower", images.draw_average_shower, shaded=True),
    Plate("12_average_images", images.draw_images, _every("average_voxels"), shaded=True),
    Plate("12_average_images_all", images.draw_every_image, _every("average_voxels"), shaded=True),
    Plate("17_timing", timing.draw_timing, _any("timing")),
)
"""In the order in which a page shows them; file names keep their numbers for good."""

DIPHOTON = "18_diphoton"
PROFILE = "19_profile"


def plates(comparison: Comparison) -> list[Plate]:
    """The figures that these records allow, in reading order."""
    found = [plate for plate in PLATES if plate.present(comparison)]
    for i, scalar in enumerate(profiles.profiled(comparison)):

        def profile(comparison: Comparison, scalar: str = scalar) -> Figure:
            return profiles.draw_profile(comparison, scalar)

        found.append(Plate(PROFILE if not i else f"{PROFILE}_{i + 1}", profile))
    for i, (model, record) in enumerate(comparison.distinct("diphoton")):
        labels = comparison.reference_short, model.short

        def paint(_: Comparison, record: Record = record, labels: tuple[str, str] = labels) -> Figure:
            return draw_diphoton(dict(record), labels)

        found.append(Plate(DIPHOTON if not i else f"{DIPHOTON}_{i + 1}", paint))
    return found


def draw(
    results: Record | Sequence[Record], directory: Path, labels: Sequence[str] | None = None
) -> list[Path]:
    """Draw every figure as PNG and PDF.

    Args:
        results: The content of one results.json, or of several with the same reference.
        directory: Where the files go.
        labels: Names of the reference and of each model in the legends.

    Returns:
        The paths, in reading order, PNG before PDF. A figure whose data a record lacks is left out.

    Raises:
        ConfigError: A wrong number of labels, or records of different references.
        StorageError: A file cannot be written.
    """
    comparison = Comparison.of(results, labels)
    paths: list[Path] = []
    for plate in plates(comparison):
        with rc_context(RC):
            figure = plate.painter(comparison)
        paths += save(figure, directory / plate.name)
    return paths
