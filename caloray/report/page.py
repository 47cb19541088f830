"""One HTML file with everything: verdict, tables, figures, definitions. Opens offline, runs no script."""

from __future__ import annotations

__all__ = ["write_page"]

import base64
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import Template
from typing import Any

from PIL import Image

import caloray
from caloray.atomic import write_bytes
from caloray.errors import StorageError
from caloray.report import facts, tables
from caloray.report.comparison import Comparison, Record
from caloray.report.figures import Plate, plates
from caloray.report.markup import Html, element, join, listing, paragraph
from caloray.report.profiles import profile_table
from caloray.report.texts import glossary, packaged
from caloray.report.verdict import verdict

PALETTE = 256

Section = tuple[str, str, Html]


def write_page(
    results: Record | Sequence[Record], labels: Sequence[str] | None, figures: Path, path: Path
) -> Path:
    """Write the report of one or several models.

    The same records and figures give the same bytes. Every string that comes from a record is escaped, and
    the page's own security policy forbids scripts and anything from outside.

    Args:
        results: The content of one results.json, or of several with the same reference.
        labels: Names of the reference and of each model.
        figures: Directory with the PNG files of :func:`caloray.report.figures.draw`; missing ones are left
            out.
        path: The HTML file.

    Returns:
        ``path``.

    Raises:
        ConfigError: A wrong number of labels, or records of different references.
        StorageError: A figure cannot be read or the page cannot be written.
    """
    comparison = Comparison.of(results, labels)
    sections = [section for section in _sections(comparison, figures) if section[2]]
    links = [element("a", title, href=f"#{anchor}") for anchor, title, _ in sections]
    content = join(
        element("section", element("h2", title), body, id=anchor) for anchor, title, body in sections
    )
    names = ", ".join(model.name for model in comparison.models)
    page = Template(packaged("page.html")).substitute(
        title=join([f"{names} against {comparison.reference_name}"]),
        style=packaged("page.css"),
        subtitle=_subtitle(comparison),
        navigation=element("nav", listing(links), **{"aria-label": "Contents"}),
        content=content,
        version=join([caloray.__version__]),
    )
    write_bytes(path, page.encode())
    return path


def _subtitle(comparison: Comparison) -> Html:
    sizes = ", ".join(f"{model.showers:,} showers of {model.name}" for model in comparison.models)
    text = f"{sizes} and {comparison.reference_showers:,} of {comparison.reference_name}"
    return paragraph(f"Generated calorimeter showers, {comparison.geometry.name}: {text}.", css="remark")


def _sections(comparison: Comparison, figures: Path) -> Iterator[Section]:
    yield "warnings", "Warnings", _warnings(comparison)
    yield "verdict", "Verdict", verdict(comparison)
    yield "metrics", "All metrics", tables.metrics_table(comparison)
    yield "figures", "Figures", _figures(comparison, figures)
    yield "separations", "Separation powers and χ²", tables.separation_table(comparison)
    yield "profiles", "Profiles against the particle", profile_table(comparison)
    yield "classifiers", "Classifiers", facts.classifier_table(comparison)
    yield "means", "Means with errors", tables.means_table(comparison)
    yield "timing", "Time per shower", facts.timing_tables(comparison)
    yield "inputs", "Inputs", facts.inputs_table(comparison)
    yield "glossary", "Definitions and sources", _glossary()


def _warnings(comparison: Comparison) -> Html:
    found: list[Html] = []
    for model in comparison.models:
        lines = [*(model.record.get("warnings") or ()), *_others(model.record)]
        prefix = "" if comparison.single else f"{model.name}: "
        found += [paragraph(f"{prefix}{line}", css="warning") for line in lines]
    return join(found)


def _others(record: Record) -> list[str]:
    diphoton: dict[str, Any] = record.get("diphoton") or {}
    return [f"di-photon test: {line}" for line in diphoton.get("warnings") or ()]


def _figures(comparison: Comparison, directory: Path) -> Html:
    shown = []
    for plate in plates(comparison):
        path = directory / f"{plate.name}.png"
        if path.is_file():
            shown.append(_figure(comparison, plate, path))
    return join(shown)


def _figure(comparison: Comparison, plate: Plate, path: Path) -> Html:
    data, width, height = _encoded(path, small=not plate.shaded)
    names = ", ".join(model.name for model in comparison.models)
    image = element(
        "img",
        src=Html(f"data:image/png;base64,{base64.b64encode(data).decode()}"),
        alt=f"{plate.title}: {names} and {comparison.reference_name}. {plate.caption}",
        width=width,
        height=height,
    ).removesuffix("</img>")
    heading = element("h3", plate.title)
    return element("figure", heading, Html(image), element("figcaption", plate.caption), id=plate.name)


def _encoded(path: Path, *, small: bool) -> tuple[bytes, int, int]:
    """A PNG, when ``small`` with a palette and a third of the size, and its width and height."""
    buffer = io.BytesIO()
    try:
        with Image.open(path) as image:
            if not small:
                return path.read_bytes(), image.width, image.height
            reduced = image.convert("RGB").quantize(PALETTE, dither=Image.Dither.NONE)
            reduced.save(buffer, format="PNG", optimize=True)
            return buffer.getvalue(), image.width, image.height
    except OSError as error:
        raise StorageError(
            f"{path}: the figure cannot be read ({error})", hint="draw the figures again"
        ) from error


def _glossary() -> Html:
    parts: list[Html] = []
    for entry in glossary():
        source = f" ({entry.source}.)" if entry.source else ""
        parts += [element("dt", entry.term), element("dd", entry.meaning, source)]
    return element("dl", *parts)
