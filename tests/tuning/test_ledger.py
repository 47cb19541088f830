"""The ledger: what is written is read again, and damage is told with the file and the way out."""

from __future__ import annotations

import json

import pytest

from caloray.errors import IntegrityError, StorageError
from caloray.tuning.ledger import Ledger, Trial, TrialResult
from caloray.tuning.resolve import identity

DONE = {"nll_bits_per_dim": 1.5}


def trial(number: int, **changes) -> Trial:
    values = {
        "kind": "search",
        "assignment": {"training.a.clip": None},
        "seed": 1,
        "epochs": {"a": 4},
        "digest": "d",
    }
    return Trial(number, **(values | changes))


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    """Three trials, the first of which has ended."""
    ledger = Ledger(tmp_path / "tuned")
    for number in range(3):
        ledger.add(trial(number, parent=0 if number else None))
    ledger.finish(TrialResult(0, "complete", dict(DONE), seconds=2.0, facts={"best_epoch": 3}))
    return ledger


def test_everything_comes_back(ledger):
    again = Ledger(ledger.output)
    assert again.trials() == [trial(number, parent=0 if number else None) for number in range(3)]
    assert again.results() == {0: TrialResult(0, "complete", DONE, seconds=2.0, facts={"best_epoch": 3})}
    assert [row["status"] for row in again.table()] == ["complete", "open", "open"]
    assert again.table()[0]["nll_bits_per_dim"] == 1.5


def test_nothing_is_written_before_something_is_added(tmp_path):
    ledger = Ledger(tmp_path / "tuned")
    assert (ledger.trials(), ledger.results(), ledger.sessions()) == ([], {}, {})
    assert not ledger.output.exists()


def test_the_first_word_of_a_trial_counts(ledger):
    ledger.finish(TrialResult(0, "failed", reason="CR-000 too late"))
    assert ledger.result(0).complete


def test_numbers_follow_each_other(ledger):
    with pytest.raises(IntegrityError, match="trial 2 is not the next one"):
        ledger.add(trial(2))
    with pytest.raises(IntegrityError, match="trial 4 is not the next one"):
        ledger.add(trial(4))
    (ledger.folder(1) / "trial.json").unlink()
    with pytest.raises(IntegrityError, match=r"0001/trial\.json: cannot be read"):
        ledger.trials()


def test_a_missing_folder_is_a_gap(ledger):
    (ledger.folder(1) / "trial.json").unlink()
    ledger.folder(1).rmdir()
    with pytest.raises(IntegrityError, match="trial 1 is missing although 2 is there"):
        ledger.trials()


def test_a_folder_that_a_killed_driver_left_empty_is_no_trial(ledger):
    ledger.folder(3).mkdir()
    ledger.folder(4).mkdir()
    assert len(ledger.trials()) == 3
    ledger.add(trial(3))
    assert len(ledger.trials()) == 4


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("trial.json", '{"schema": "cal', r"0000/trial\.json: cannot be read \(no complete JSON\)"),
        ("trial.json", "[]", r"0000/trial\.json: schema 'list', expected 'caloray-tune/1'"),
        ("trial.json", '{"schema": "caloray-tune/9"}', "schema 'caloray-tune/9'"),
        (
            "trial.json",
            '{"schema": "caloray-tune/1", "number": 0}',
            "keys that are missing or unknown: assignment",
        ),
        ("result.json", "", r"0000/result\.json: cannot be read"),
    ],
)
def test_a_damaged_record_is_told_with_its_file(ledger, name, text, message):
    (ledger.folder(0) / name).write_text(text)
    with pytest.raises(IntegrityError, match=message) as caught:
        Ledger(ledger.output).results()
    assert caught.value.hint
    assert caught.value.exit_code == 66


@pytest.mark.parametrize(
    "change",
    [{"number": 1}, {"objectives": {}}, {"objectives": {"nll_bits_per_dim": 1e999}}],
)
def test_a_result_that_contradicts_itself_is_refused(ledger, change):
    path = ledger.folder(0) / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(IntegrityError, match="not the result of trial 0"):
        ledger.result(0)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("trial", {"assignment": "abc"}, "assignment: Input should be an object, found 'abc'"),
        ("trial", {"epochs": None}, "epochs: Input should be an object, found None"),
        ("trial", {"epochs": {"a": 0}}, "epochs.a: Input should be greater than or equal to 1, found 0"),
        ("trial", {"rung": "x"}, "rung: Input should be a valid integer, found 'x'"),
        (
            "trial",
            {"kind": "other"},
            "kind: Input should be 'baseline', 'search' or 'confirm', found 'other'",
        ),
        ("trial", {"number": 7}, "number 7, expected trial 0"),
        ("trial", {"parent": 99}, "trial 0 cannot come from trial 99, which is no earlier one"),
        ("trial", {"parent": 0}, "trial 0 cannot come from trial 0, which is no earlier one"),
        ("trial", {"split": "train"}, "split: Input should be 'validation' or 'test', found 'train'"),
        ("result", {"status": "done"}, "status: Input should be 'complete', 'pruned', 'failed' or"),
        ("result", {"objectives": [1.5]}, "objectives: Input should be an object, found"),
        ("result", {"objectives": {"nll_bits_per_dim": "x"}}, "objectives.nll_bits_per_dim: Input should be"),
        ("result", {"seconds": "x"}, "seconds: Input should be a valid number, found 'x'"),
    ],
)
def test_a_record_that_was_changed_by_hand_is_told_with_its_field(ledger, name, change, message):
    path = ledger.folder(0) / f"{name}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(IntegrityError) as caught:
        Ledger(ledger.output).table()
    assert caught.value.message.startswith(f"{path}: {message}")
    assert caught.value.hint


def test_records_of_before_are_read_but_a_repetition_needs_its_split(ledger):
    path = ledger.folder(0) / "trial.json"
    value = json.loads(path.read_text())
    del value["split"]
    path.write_text(json.dumps(value))
    assert ledger.trials()[0].split == "validation"
    path.write_text(json.dumps(value | {"kind": "confirm"}))
    with pytest.raises(IntegrityError, match="keys that are missing or unknown: split"):
        ledger.trials()


def test_whose_directory_it_is_can_be_asked_without_taking_it(tmp_path):
    ledger = Ledger(tmp_path / "tuned")
    assert not ledger.is_of({"seed": 1})
    assert not ledger.output.exists()
    ledger.claim({"seed": 1, "data": "d"})
    assert not ledger.is_of({"seed": 1}), "no trial has begun"
    ledger.add(Trial(0, "search", {}, 1, {"c": 1}, "d"))
    assert ledger.is_of({"seed": 1})
    with pytest.raises(StorageError, match="another campaign; seed: it has 1, here 2"):
        ledger.is_of({"seed": 2})


def test_sessions_count_their_longest_line_and_torn_lines_nothing(ledger):
    ledger.note_session("a", 1.0)
    ledger.note_session("a", 5.0)
    ledger.note_session("b", 2.0)
    with (ledger.output / "sessions.jsonl").open("a") as file:
        file.write('{"session": "b", "sec')
    assert ledger.sessions() == {"a": 5.0, "b": 2.0}


def test_a_directory_belongs_to_one_campaign(load):
    settings = load()
    ledger = Ledger(settings.output)
    ledger.claim(identity(settings, "data"))
    ledger.add(Trial(0, "baseline", {}, 1, {"next_layer": 18}, "d"))
    more = load(budget={"trials": 60}, trial={"concurrent": 1}, confirm=None)
    Ledger(more.output).claim(identity(more, "data"))
    other = load(seed=2, run={"training.next_layer.batch": 64})
    with pytest.raises(
        StorageError, match=r"another campaign; run\.training\.next_layer\.batch: it has 1000, here 64"
    ):
        Ledger(other.output).claim(identity(other, "data"))
    with pytest.raises(StorageError, match='data: it has "data", here "others"'):
        ledger.claim(identity(settings, "others"))
