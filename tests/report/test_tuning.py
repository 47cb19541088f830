"""The page of a tuning campaign: everything on it, nothing from outside, nothing unescaped."""

from __future__ import annotations

import copy
import importlib.util
import itertools
import math
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from matplotlib.figure import Figure
from PIL import Image

from caloray.report import tuning, tuning_figures
from caloray.report.markup import element
from caloray.report.tuning import write_tuning_page
from caloray.report.tuning_view import Campaign, Objective, place_of, text_of, ticks_of
from caloray.tuning import objective_settings
from caloray.tuning.summary import summarise

VOID = {"meta", "img"}
EVIL = "<script>alert('x')</script> \"&{}$name"
FIGURES = ("history", "importance", "parallel", "slices", "confirm")


class Page(HTMLParser):
    """Tags that open and close, attributes, and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A campaign with two objectives and everything that a page can show."""
    path = Path(__file__).parents[1] / "tuning" / "toy_campaign.py"
    spec = importlib.util.spec_from_file_location("toy_campaign", path)
    made_up = sys.modules.get("toy_campaign") or importlib.util.module_from_spec(spec)
    if "toy_campaign" not in sys.modules:
        sys.modules["toy_campaign"] = made_up
        spec.loader.exec_module(made_up)
    two = [{"kind": "nll"}, {"kind": "ms_per_shower"}]
    settings = made_up.settings_of(tmp_path_factory.mktemp("campaign") / "out", objective=two)
    made_up.fill(settings)
    return summarise(settings).to_dict()


@pytest.fixture(scope="module")
def page(record: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Page]:
    """The page with its figures."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    assert write_tuning_page(record, path) == path
    text = path.read_text(encoding="utf-8")
    return path, text, Page(text)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without figures, which take time."""
    monkeypatch.setattr(tuning, "_figure", lambda *words: element("i", *words[1:3]))


def test_it_loads_nothing_and_runs_nothing(page: tuple[Path, str, Page]) -> None:
    _, text, parsed = page
    assert not parsed.open
    assert "http://" not in text
    assert "https://" not in text
    assert not parsed.named("script")
    assert not parsed.named("link")
    assert "url(" not in text
    for _, attributes in parsed.tags:
        assert not [name for name in attributes if name.startswith("on")]
    assert any("default-src 'none'" in (meta.get("content") or "") for meta in parsed.named("meta"))
    anchors = {attributes.get("id") for _, attributes in parsed.tags}
    assert {(link["href"] or "")[1:] for link in parsed.named("a")} <= anchors


def test_all_figures_are_there(page: tuple[Path, str, Page]) -> None:
    path, _, parsed = page
    wanted = [f"tune_{name}{number}" for name in FIGURES for number in ("", "_2")] + ["tune_pareto"]
    images = parsed.named("img")
    assert {figure["id"] for figure in parsed.named("figure")} == set(wanted)
    assert len(images) == len(wanted)
    assert all((image["src"] or "").startswith("data:image/png;base64,") for image in images)
    assert all(len(image["alt"] or "") > 50 for image in images)
    for name in wanted:
        assert (path.parent / "figures" / f"{name}.pdf").is_file()
    with Image.open(path.parent / "figures" / "tune_history.png") as image:
        size = {"width": str(image.width), "height": str(image.height)}
    assert size in [{key: image[key] for key in ("width", "height")} for image in images]


def test_what_it_says(page: tuple[Path, str, Page], record: dict[str, Any]) -> None:
    text = page[2].text
    assert "Tuning campaign toy" in text
    assert "The gain is told from noise" in text
    assert "22 trials for 8 parameters are few" in text
    for trial in record["trials"]:
        assert trial["reason"] in text if trial.get("reason") else True
    for parameter in record["parameters"]:
        assert parameter["name"] in text
    for word in ("pruned", "stopped", "not finished", "halving (min_epochs 4, factor 3)", "24 of 24"):
        assert word in text


def test_the_best_settings_can_be_copied(page: tuple[Path, str, Page], record: dict[str, Any]) -> None:
    _, text, parsed = page
    assert {"class": "copy"} in parsed.named("pre")
    assert "user-select: all" in text
    marked = parsed.text[parsed.text.index("# The best settings") :]
    value = yaml.safe_load(marked[: marked.index("Made by caloray")])
    assert value == yaml.safe_load(record["best_yaml"])


def test_strings_from_records_are_escaped(record: dict[str, Any], undrawn: None, tmp_path: Path) -> None:
    evil = copy.deepcopy(record)
    evil |= {"name": EVIL, "config": EVIL, "components": [EVIL], "best_yaml": EVIL}
    evil["search"] = {"kind": EVIL, EVIL: EVIL}
    evil["importance"]["nll_bits_per_dim"]["remark"] = EVIL
    evil["confirm"]["groups"][0]["label"] = EVIL
    evil["confirm"]["groups"][0]["objectives"]["nll_bits_per_dim"]["difference"]["words"] = EVIL
    evil["parameters"][-1] |= {"choices": [EVIL, "b"], "baseline": EVIL, "name": EVIL}
    for trial in evil["trials"]:
        trial |= {"level": EVIL, "assignment": {EVIL: EVIL}}
        if trial["status"] == "pruned":
            trial["reason"] = EVIL
    text = write_tuning_page(evil, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in text.lower()
    assert Page(text).text.count(EVIL) > 12


def test_words_from_records_are_drawn_as_they_are(record: dict[str, Any]) -> None:
    """No mathematics, no missing values: a figure of such a record is drawn."""
    evil = copy.deepcopy(record)
    evil["parameters"][-1] |= {"choices": ["$a^{", EVIL], "baseline": "$a^{"}
    for trial in evil["trials"]:
        trial["assignment"] = {key: value for key, value in trial["assignment"].items() if "max_lr" in key}
    figure = tuning_figures.draw_parallel(Campaign(evil), Objective.of("nll_bits_per_dim"))
    figure.canvas.draw()


def test_the_same_record_gives_the_same_bytes(record: dict[str, Any], undrawn: None, tmp_path: Path) -> None:
    first, second = (write_tuning_page(record, tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert first == second


def test_a_campaign_that_has_just_begun(record: dict[str, Any], tmp_path: Path) -> None:
    young = copy.deepcopy(record)
    young |= {"trials": record["trials"][-1:], "best": None, "baseline": None, "pareto": [], "confirm": None}
    young["trials"][0] |= {"kind": "search", "status": "open", "values": {}, "number": 0}
    young["best_yaml"] = ""
    page = Page(write_tuning_page(young, tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "No trial is complete yet" in page.text
    assert not page.named("img")


def test_without_repetitions_it_says_so(record: dict[str, Any], undrawn: None, tmp_path: Path) -> None:
    alone = copy.deepcopy(record) | {"confirm": None, "remarks": ["Is it <gain> or luck? That is not known."]}
    text = write_tuning_page(alone, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Is it &lt;gain&gt; or luck? That is not known." in text


LOG = {"low": 2e-4, "high": 1e-2, "log": True, "whole": False, "choices": []}
WHOLE = {"low": 4, "high": 16, "log": False, "whole": True, "choices": []}


def test_places_on_axes() -> None:
    assert place_of(LOG, 2e-4) == 0
    assert place_of(LOG, math.sqrt(2e-4 * 1e-2)) == pytest.approx(0.5)
    assert place_of(WHOLE, 10) == 0.5
    assert math.isnan(place_of(WHOLE, None))
    assert place_of({"choices": ["a", True, 3]}, True) == 0.5
    assert math.isnan(place_of({"choices": ["a", "b"]}, "c"))


@pytest.mark.parametrize("parameter", [LOG, WHOLE, LOG | {"high": 1e3}, WHOLE | {"high": 5}])
def test_ticks_do_not_collide(parameter: dict[str, Any]) -> None:
    ticks = ticks_of(parameter)
    assert ticks[0] == (0, text_of(parameter["low"]))
    assert ticks[-1] == (1, text_of(parameter["high"]))
    places = [place for place, _ in ticks]
    assert all(after - before > 0.06 for before, after in itertools.pairwise(places))
    assert len({text for _, text in ticks}) == len(ticks)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-6, "1e-6"), (0.0017981, "0.0018"), (12345.0, "1.23e4"), (True, "true"), (None, "null"), (8, "8")],
)
def test_settings_for_a_reader(value: Any, text: str) -> None:
    assert text_of(value) == text


def test_a_few_bad_trials_do_not_squeeze_the_others() -> None:
    """One at 12 among eight near 0.7 is only counted; the baseline is shown wherever it lies."""
    axes = Figure().add_subplot()
    values = [0.68, 0.69, 0.70, 0.70, 0.71, 0.74, 0.9, 12.04]
    tuning_figures.set_limits(axes, values)
    assert axes.get_ylim()[1] < 1.0
    tuning_figures.set_limits(axes, values, keep=12.04)
    assert axes.get_ylim()[1] > 12.04


def changed(record: Any, **changes: Any) -> str:
    return str(tuning.verdict(Campaign(copy.deepcopy(record) | changes)))


def test_what_was_found_is_said_as_it_is(record: Any) -> None:
    """Refuted settings, a search that found nothing, settings that were selected by the repetitions."""
    confirm = copy.deepcopy(record["confirm"])
    assert "DO NOT USE" not in changed(record)
    confirm |= {"refuted": True, "remarks": ["The test split has helped to select."]}
    text = changed(record, confirm=confirm, remarks=["DO NOT USE: the run config itself is better."])
    assert "DO NOT USE: the run config itself is better." in text
    assert "helped to select" in text
    assert "constant values of the last generation" in changed(record, fidelity={"kind": "pbt"})


def test_importances_of_a_blind_forest_are_grey(record: Any) -> None:
    blind = copy.deepcopy(record)
    name = blind["objectives"][0]
    for explained, colours in ((0.9, 2), (-0.37, 1)):
        blind["importance"][name]["explained"] = explained
        figure = tuning_figures.draw_importance(Campaign(blind), Objective.of(name))
        found = {bar.get_facecolor() for bar in figure.axes[0].patches}
        assert len(found) == colours


@pytest.mark.parametrize("name", [name for name in objective_settings.WHOLE if name.startswith("prdc/")])
def test_what_is_given_with_the_other_sign_is_called_so(name):
    """Precision and its like are minimised as their negatives."""
    objective = Objective.of(name)
    word = name.removeprefix("prdc/")
    assert (objective.short, objective.label) == (f"− {word}", f"− {word} (more {word} is better)")
