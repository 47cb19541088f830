"""Small pieces of HTML in which every string is escaped unless it was made here."""

from __future__ import annotations

__all__ = [
    "Html",
    "details",
    "element",
    "join",
    "listing",
    "number",
    "paragraph",
    "plus_minus",
    "spreads",
    "table",
]

import html
import math
from collections.abc import Iterable, Sequence

Cell = object
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def safe(content: object) -> Html:
    """HTML as it is, anything else as escaped text."""
    return content if isinstance(content, Html) else Html(html.escape(str(content), quote=True))


def join(parts: Iterable[object], between: str = "") -> Html:
    """Parts one after the other."""
    return Html(between.join(safe(part) for part in parts))


def element(name: str, *content: object, **attributes: object) -> Html:
    """``<name attribute="...">content</name>``; ``css`` stands for the attribute class."""
    named = {("class" if key == "css" else key): value for key, value in attributes.items() if value != ""}
    written = "".join(f' {key}="{safe(value)}"' for key, value in named.items())
    return Html(f"<{name}{written}>{join(content)}</{name}>")


def paragraph(*content: object, css: str = "") -> Html:
    """One paragraph."""
    return element("p", *content, css=css)


def listing(items: Iterable[object]) -> Html:
    """An unordered list."""
    return element("ul", *(element("li", item) for item in items))


def details(summary: object, *content: object) -> Html:
    """Something that opens on a click."""
    return element("details", element("summary", summary), *content)


def table(head: Sequence[object], rows: Iterable[Sequence[Cell]], caption: object = "") -> Html:
    """A table; the first cell of a row is its heading."""
    top = element("tr", *(element("th", cell, scope="col") for cell in head))
    body = [
        element("tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:]))
        for row in rows
    ]
    title = element("caption", caption) if caption else ""
    inner = element("table", title, element("thead", top), element("tbody", *body))
    return element("div", inner, css="scroll")


def number(value: float | None, digits: int = 4) -> str:
    """A number for a reader; an en dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    mantissa, _, power = f"{value + 0.0:.{digits}g}".partition("e")
    text = mantissa.replace("-", "−")
    return f"{text}·10{str(int(power)).translate(RAISED)}" if power else text


def spreads(value: float | None) -> str:
    """A significance with its sign, in spreads of the floor."""
    if value is None or not math.isfinite(value):
        return "no spread"
    shown = f"{abs(value):.1f}" if abs(value) < 100 else f"{abs(value):,.0f}"
    return f"{'−' if value < 0 else '+'}{shown}\N{NO-BREAK SPACE}spreads"


def plus_minus(value: float | None, error: float | None) -> str:
    """Value and error."""
    if value is None or error is None:
        return number(value)
    return f"{number(value)}\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{number(error, 2)}"
