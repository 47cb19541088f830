"""The page: one file, nothing from outside, nothing unescaped, every number in it."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caloray.errors import StorageError
from caloray.evaluation.limits import Standing, expected_by_chance, standing
from caloray.report import write_page
from caloray.report.comparison import Comparison
from caloray.report.markup import Html, element, number, plus_minus, spreads
from caloray.report.style import new_figure, save
from caloray.report.tables import mark
from caloray.report.texts import glossary
from caloray.report.verdict import judge

VOID = {"meta", "img", "br", "link", "input"}
EVIL = "<script>alert('x')</script> \"&{}$name"


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
        assert self.open, f"</{tag}> without a start"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def figures(tmp_path: Path) -> Path:
    """Two of the figures are there."""
    for name in ("00_first_look", "13_correlations"):
        figure = new_figure(2, 2)
        figure.add_subplot().plot([0, 1], [1, 0])
        save(figure, tmp_path / "figures" / name)
    return tmp_path / "figures"


def written(results: Any, labels: Any, figures: Path) -> tuple[str, Page]:
    path = figures.parent / "report.html"
    assert write_page(results, labels, figures, path) == path
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert not page.open
    return text, page


def test_it_loads_nothing_and_runs_nothing(pair: list[dict[str, Any]], figures: Path) -> None:
    text, page = written(pair, ("Geant4", "teacher", "student"), figures)
    assert "http://" not in text
    assert "https://" not in text
    assert not page.named("script")
    assert not page.named("link")
    assert "@import" not in text
    assert "url(" not in text
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
    sources = [image["src"] or "" for image in page.named("img")]
    assert len(sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert all(len(image["alt"] or "") > 50 for image in page.named("img"))
    anchors = {attributes.get("id") for _, attributes in page.tags}
    assert {(link["href"] or "")[1:] for link in page.named("a")} <= anchors
    assert any("default-src 'none'" in (meta.get("content") or "") for meta in page.named("meta"))


def test_same_bytes_each_time(make: Any, figures: Path) -> None:
    assert written(make(), None, figures)[0] == written(make(), None, figures)[0]


def test_strings_from_files_are_escaped(make: Any, figures: Path) -> None:
    record = make(EVIL)
    record["reference"]["name"] = EVIL
    record["geometry"]["name"] = EVIL
    record["warnings"] = [EVIL]
    record["versions"] = {EVIL: EVIL}
    record["reference"]["files"] = [{"name": EVIL, "sha256": EVIL}]
    record["metrics"][0] |= {"label": EVIL, "note": EVIL, "settings": {EVIL: EVIL}}
    record["classifiers"][0] |= {"title": EVIL, "settings": {EVIL: [EVIL]}}
    record["separations"][0]["observable"] = EVIL
    record["timing"]["hardware"] = EVIL
    record["timing"]["geant4"]["note"] = EVIL
    record["diphoton"] = {"warnings": [EVIL], "curves": []}
    text, page = written(record, (EVIL, EVIL), figures)
    assert "<script" not in text.lower()
    assert not page.named("script")
    assert page.text.count(EVIL) > 10


def test_every_number_of_the_metrics_is_there(make: Any, figures: Path) -> None:
    record = make()
    page = written(record, None, figures)[1]
    found = [*record["metrics"], *(one[name] for one in record["classifiers"] for name in ("auc", "jsd"))]
    for metric in found:
        assert plus_minus(metric["value"], metric["error"]) in page.text
        assert plus_minus(metric["floor"], metric["spread"]) in page.text
    for metric in record["metrics"]:
        assert number(metric["matched"]) in page.text
        assert metric["label"] in page.text
    for words in ("1,234, 567", "10 × 283", "no spread", "not comparable", "567 showers, not 100,000"):
        assert words in page.text, words
    for row in record["separations"]:
        assert number(row["separation"]) in page.text
    for words in (
        number(12.34 * 1.2),
        number(141.8, 3),
        "out of memory",
        "98,765",
        "0.6171",
        plus_minus(1.0444, 0.0555),
        "1.25",
        plus_minus(0.98, 0.31),
    ):
        assert words in page.text, words
    for words in (
        "a" * 64,
        "b" * 64,
        "9" * 64,
        "0.01515 MeV",
        "0.0345",
        "2.4.6",
        "the incident energies differ",
    ):
        assert words in page.text, words
    assert all(entry.term in page.text and entry.source in page.text for entry in glossary())


def test_models_side_by_side(pair: list[dict[str, Any]], figures: Path) -> None:
    page = written(pair, ("Geant4", "teacher", "student"), figures)[1]
    for what in ("metric", "observable"):
        head = page.words.index(what)
        assert page.words[head + 1 : head + 3] == ["teacher", "student"]
    assert "In full: teacher" in page.text
    assert "In full: student" in page.text


def test_the_verdict_puts_the_worst_first(make: Any, figures: Path) -> None:
    record = make()
    judged = judge(Comparison.of(record).models[0])
    known = [one.significance for one in judged if one.significance is not None]
    assert known == sorted(known, reverse=True)
    spectra = len(record["separations"]) - 1  # all but the incident energies
    assert len(judged) == len(record["metrics"]) + 2 * spectra - 1  # no chi2 of the voxel energies
    assert not any("incident" in one.label for one in judged)
    off = sum(value >= 5 for value in known)
    text = written(record, None, figures)[1].text
    assert f"of {len(known)} numbers {off} clearly off, " in text
    assert f"Of {len(known)} numbers that were independent" in text
    worst = text.index("Worst first:")
    assert text.index(judged[0].text) > worst


@pytest.mark.parametrize(
    ("significance", "expected"),
    [
        (None, None),
        (-27.0, Standing.SUSPICIOUS),
        (-5.0, Standing.SUSPICIOUS),
        (-4.9, Standing.FLOOR),
        (1.99, Standing.FLOOR),
        (2.0, Standing.WATCHED),
        (4.99, Standing.WATCHED),
        (5.0, Standing.OFF),
    ],
)
def test_one_rule_for_all_numbers(significance: float | None, expected: Standing | None) -> None:
    assert standing(significance) is expected
    assert ("suspicious" in mark(significance)) is (expected is Standing.SUSPICIOUS)


def test_far_below_the_floor_is_not_fine(make: Any, figures: Path) -> None:
    """Showers of the test set among the generated ones."""
    record = make()
    assert "No independent sample should" not in written(record, None, figures)[1].text
    record["metrics"][0] |= {"matched": 0.0, "significance": -27.0}
    text = written(record, None, figures)[1].text
    assert "1 suspiciously below the floor." in text
    assert "No independent sample should" in text
    assert "−27.0\N{NO-BREAK SPACE}spreads, suspiciously below the floor" in text


def test_what_chance_does_to_many_numbers() -> None:
    rng = np.random.default_rng(0)
    numbers = rng.standard_normal((4000, 60))
    beyond, largest = expected_by_chance(60)
    assert beyond == pytest.approx((numbers > 2).sum(axis=1).mean(), rel=0.05)
    assert largest == pytest.approx(np.median(numbers.max(axis=1)), abs=0.05)
    assert expected_by_chance(0) == (0.0, 0.0)


def test_chi2_is_that_of_the_mean_with_its_significance(make: Any, figures: Path) -> None:
    record = make()
    row = next(row for row in record["separations"] if row["observable"] == "layer_energy")
    row |= {"chi2_per_ndf": 1.357, "chi2_floor_spread": 0.0456, "chi2_significance": 8.26}
    text = written(record, None, figures)[1].text
    for words in (
        "1.36",
        plus_minus(0.98, 0.0456),
        spreads(8.26),
        "above 13 of 20 halvings",
        "input, not judged",
    ):
        assert words in text, words


def test_the_reference_has_the_given_name_everywhere(make: Any, figures: Path) -> None:
    labels = "Another simulation", "flow"
    text, page = written(make(), labels, figures)
    assert "Geant4" not in text
    assert page.text.count(labels[0]) > 5


def test_profiles_have_a_section(make: Any, make_profile: Any, figures: Path) -> None:
    record = make()
    assert not [tag for tag in written(record, None, figures)[1].named("section") if tag["id"] == "profiles"]
    record["profiles"] = [make_profile(0.2), make_profile(0.2, EVIL)]
    record["metrics"].append(metric_of("profile/theta/e_ratio"))
    text, page = written(record, None, figures)
    assert "<script" not in text.lower()
    for words in (
        "against theta",
        "−4.3 errors, 17 to 31 deg",
        plus_minus(0.82, 0.012),
        plus_minus(0.78, 0.012),
        number(9.45, 3),
        plus_minus(1.013, 0.337),
        spreads(25.1),
    ):
        assert words in page.text, words


def metric_of(name: str) -> dict[str, Any]:
    sizes = {"showers": [9, 9], "pair_showers": 4, "pairs": 20}
    numbers = {"value": 9.45, "matched": 9.45, "floor": 1.013, "spread": 0.337, "significance": 25.1}
    rest: dict[str, Any] = {"error": None, "better": "lower", "comparable": False, "settings": {}, "note": ""}
    return {"name": name, "label": "χ²/NDF of something", **sizes, **numbers, **rest}


def test_why_nothing_is_comparable_is_said_once(make: Any, figures: Path) -> None:
    record = make() | {"not_comparable": ["the detector is another one", "<b>few</b> showers"]}
    text = written(record, None, figures)[1].text
    for reason in record["not_comparable"]:
        assert text.count(reason) == 1
    assert text.index("the detector is another one") < text.index("compared with the floor")
    assert "see above" in text


def test_the_speed_up_comes_with_its_reservation(make: Any, figures: Path) -> None:
    record = make()
    assert (
        "Speed-up over ref.hdf5 (1.75 s per shower): machines may differ."
        in written(record, None, figures)[1].text
    )
    record["timing"]["geant4"]["note"] = "timed on a quiet node."
    assert "1.75 s per shower): timed on a quiet node." in written(record, None, figures)[1].text


def test_classifiers_are_compared_at_equal_sizes(make: Any, figures: Path) -> None:
    record = make()
    record["classifiers"][0]["auc"]["matched"] = 0.5432
    page = written(record, None, figures)[1]
    at = page.words.index("0.5432")
    assert page.words[at - 1].startswith("0.6373")
    assert page.words[at + 1].startswith("0.501")


def test_a_record_without_anything_new(make: Any, figures: Path) -> None:
    record = make()
    for key in ("metrics", "classifiers", "correlations", "average_voxels", "timing", "diphoton", "versions"):
        del record[key]
    record["warnings"] = []
    page = written(record, None, figures)[1]
    anchors = {attributes.get("id") for tag, attributes in page.tags if tag == "section"}
    assert anchors == {"verdict", "separations", "means", "figures", "inputs", "glossary"}


def test_a_damaged_figure_is_one_clear_line(make: Any, figures: Path) -> None:
    figures.joinpath("00_first_look.png").write_bytes(b"not a picture")
    with pytest.raises(StorageError, match=r"00_first_look\.png: the figure cannot be read"):
        write_page(make(), None, figures, figures.parent / "report.html")


def test_markup_escapes_what_it_did_not_make() -> None:
    assert element("p", "<b>", Html("<i>x</i>"), css='"') == '<p class="&quot;">&lt;b&gt;<i>x</i></p>'


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "no spread"), (0.04, "+0.0 spreads"), (-3.15, "−3.1 spreads"), (1234.5, "+1,234 spreads")],
)
def test_significances_for_a_reader(value: float | None, text: str) -> None:
    assert spreads(value) == text.replace(" spreads", "\N{NO-BREAK SPACE}spreads")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.012345, "0.01235"),
        (-3.2e-7, "−3.2·10⁻⁷"),
        (1.5e12, "1.5·10¹²"),
        (-0.0, "0"),
        (98765, "98,765"),
        (None, "–"),
    ],
)
def test_numbers_for_a_reader(value: float | None, text: str) -> None:
    assert number(value) == text
