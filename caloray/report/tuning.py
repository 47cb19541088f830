"""One HTML file about a tuning campaign: what was searched, what was found, and whether it is a gain."""

from __future__ import annotations

__all__ = ["write_tuning_page"]

import base64
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from string import Template
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

import caloray
from caloray.atomic import write_bytes
from caloray.report import tuning_figures as figures
from caloray.report.markup import Html, element, join, listing, paragraph
from caloray.report.style import RC, save
from caloray.report.texts import caption_of, packaged
from caloray.report.tuning_slices import draw_slices
from caloray.report.tuning_tables import (
    confirm_table,
    failures_table,
    pareto_table,
    searched_table,
    trials_table,
    verdict,
)
from caloray.report.tuning_view import Campaign

Section = tuple[str, str, Html]

ALONE = ("History", "All settings at once", "Slices", "Trade-off")
"""Figures that are all of their section and need no heading of their own."""


def write_tuning_page(record: Mapping[str, Any], page: Path) -> Path:
    """Write the report of a campaign, finished or not.

    The same record gives the same bytes. Every string that comes from the record is escaped, and the page's
    own security policy forbids scripts and anything from outside.

    Args:
        record: What :meth:`caloray.tuning.summary.TuningSummary.to_dict` gives.
        page: The HTML file; PNG and PDF files of the figures go to the folder ``figures`` beside it.

    Returns:
        ``page``.

    Raises:
        StorageError: A file cannot be written.
    """
    campaign = Campaign(record)
    sections = [section for section in _sections(campaign, page.parent / "figures") if section[2]]
    links = [element("a", title, href=f"#{anchor}") for anchor, title, _ in sections]
    content = join(
        element("section", element("h2", title), body, id=anchor) for anchor, title, body in sections
    )
    text = Template(packaged("tuning.html")).substitute(
        title=join([f"Tuning campaign {record['name']}"]),
        style=packaged("page.css"),
        subtitle=_subtitle(campaign),
        navigation=element("nav", listing(links), **{"aria-label": "Contents"}),
        content=content,
        version=join([caloray.__version__]),
    )
    write_bytes(page, text.encode())
    return page


def _subtitle(campaign: Campaign) -> Html:
    record = campaign.record
    complete = sum(trial["status"] == "complete" for trial in record["trials"])
    still = sum(trial["status"] == "open" for trial in record["trials"])
    left = f", {still} not finished" if still else ""
    names = ", ".join(record["components"])
    return paragraph(
        f"Component{'s' if len(record['components']) > 1 else ''} {names} of {record['config']}: "
        f"{len(record['trials'])} trials, {complete} complete{left}; "
        f"{record['budget']['cpu_hours']:.3g} CPU hours.",
        css="remark",
    )


def _sections(campaign: Campaign, folder: Path) -> Iterator[Section]:
    record = campaign.record
    yield "verdict", "Result", join([verdict(campaign), _confirmation(campaign, folder)])
    yield "searched", "What was searched", searched_table(campaign)
    if campaign.searched:
        yield "history", "History", _each(campaign, folder, "history", figures.draw_history)
        yield "importance", "Importance", _importance(campaign, folder)
        yield "parallel", "All settings at once", _crowded(campaign, folder)
        yield "slices", "Slices", _each(campaign, folder, "slices", draw_slices)
    if record["pareto"]:
        drawn = _figure(folder, "tune_pareto", "", partial(figures.draw_trade_off, campaign))
        yield "pareto", "Trade-off", join([drawn, pareto_table(campaign)])
    yield "failures", "Trials without a result", failures_table(campaign)
    yield "trials", "All trials", trials_table(campaign)
    yield "best", "Best settings", _best(campaign)


def _each(campaign: Campaign, folder: Path, name: str, draw: Callable[..., Figure]) -> Html:
    """The figure of every objective."""
    several = len(campaign.objectives) > 1
    return join(
        _figure(
            folder,
            f"tune_{name}" + (f"_{i + 1}" if i else ""),
            f": {objective.short}" if several else "",
            partial(draw, campaign, objective),
        )
        for i, objective in enumerate(campaign.objectives)
    )


def _crowded(campaign: Campaign, folder: Path) -> Html:
    """Parallel coordinates where there are two lines to compare."""
    if len(campaign.crowd(campaign.objectives[0].name)) < 2:
        return Html("")
    return _each(campaign, folder, "parallel", figures.draw_parallel)


def _importance(campaign: Campaign, folder: Path) -> Html:
    parts: list[Html] = []
    for i, objective in enumerate(campaign.objectives):
        found = campaign.record["importance"][objective.name]
        title = f": {objective.short}" if len(campaign.objectives) > 1 else ""
        if found["remark"]:
            parts.append(paragraph(f"{objective.short}: {found['remark']}.", css="warning"))
        if found["shares"]:
            draw = partial(figures.draw_importance, campaign, objective)
            parts.append(_figure(folder, "tune_importance" + (f"_{i + 1}" if i else ""), title, draw))
            text = (
                f"From {found['trials']} trials of {found['level']}; the forest explains "
                f"{max(0.0, found['explained']):.0%} of the variance of trials that it has not seen."
            )
            parts.append(paragraph(text, css="remark"))
    return join(parts)


def _confirmation(campaign: Campaign, folder: Path) -> Html:
    if not campaign.record["confirm"]:
        return Html("")
    drawn = _each(campaign, folder, "confirm", figures.draw_confirmation)
    return join([confirm_table(campaign), drawn])


def _best(campaign: Campaign) -> Html:
    text = campaign.record["best_yaml"]
    if not text:
        return Html("")
    hint = "One click marks all of it. Saved as best.yaml, it is trained with `caloray train best.yaml`."
    return join([paragraph(hint, css="remark"), element("pre", text, css="copy")])


def _figure(folder: Path, name: str, title: str, draw: Callable[[], Figure]) -> Html:
    """Draw a figure, keep it as PNG and PDF, and put it into the page."""
    with rc_context(RC):
        figure = draw()
    png = save(figure, folder / name)[0]
    data = png.read_bytes()
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))  # of the PNG's header
    heading, caption = caption_of(name)
    image = element(
        "img",
        src=Html(f"data:image/png;base64,{base64.b64encode(data).decode()}"),
        alt=f"{heading}{title}. {caption}",
        width=width,
        height=height,
    ).removesuffix("</img>")
    head = element("h3", f"{heading}{title}") if title or heading not in ALONE else Html("")
    return element("figure", head, Html(image), element("figcaption", caption), id=name)
