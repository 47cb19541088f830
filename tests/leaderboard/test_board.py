"""The order of a board: floor first, best to worst, the user's model where it belongs or apart."""

from __future__ import annotations

import copy

import pytest

from caloray.leaderboard.board import build_board
from caloray.leaderboard.columns import COLUMNS


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.option)
@pytest.mark.parametrize("dataset", ["ds1_pions", "ds3"])
def test_sorted_from_best_to_worst(dataset, column):
    board = build_board(dataset, sort=column.option)
    assert board.rows[0].entry.name == "GEANT4"
    assert board.rows[0].rank is None
    ranked = [row.entry.values[column.key] for row in board.rows if row.rank]
    assert ranked == sorted(ranked, reverse=column.better == "higher")
    assert [row.rank for row in board.rows if row.rank] == list(range(1, len(ranked) + 1))
    rest = board.rows[1 + len(ranked) :]
    assert not any(column.key in row.entry.values for row in rest)
    assert len(board.rows) == {"ds1_pions": 13, "ds3": 16}[dataset]


def test_a_comparable_model_is_ranked(results, save):
    board = build_board("ds2", [save(results)])
    found = next(row for row in board.rows if row.entrant is not None)
    assert found.rank == 2  # FPD 100: after CaloDREAM (24.6), before CaloScore (112)
    assert board.rows[1].entry.name == "CaloDREAM"
    assert board.rows[3].entry.name == "CaloScore"
    assert board.apart == ()
    facts = board.to_dict()
    mine = facts["rows"][2]
    assert mine["name"] == "flow.hdf5"
    assert mine["floors"]["fpd"]["value"] == pytest.approx(10)
    assert any("machines that are not named" in remark for remark in mine["remarks"])
    assert "auc_resnet" in mine["left_out"]
    assert "auc_resnet" not in mine["values"]
    assert "auc_resnet" in mine["floors"]
    assert "floors" not in facts["rows"][1]


def test_a_model_that_is_not_comparable_is_never_ranked(results, save):
    spoiled = copy.deepcopy(results)
    spoiled["threshold"] = 0.0
    next(metric for metric in spoiled["metrics"] if metric["name"] == "fpd")["value"] = 1e-6
    board = build_board("ds2", [save(spoiled, "a/results.json"), save(results, "b/results.json").parent])
    assert [row.entrant.path.parent.name for row in board.rows if row.entrant] == ["b"]
    assert [item.entrant.path.parent.name for item in board.apart] == ["a"]
    facts = board.to_dict()["apart"]
    assert facts[0]["reasons"] == ["threshold 0 keV instead of 15.15 keV"]
    assert len(board.rows) == 19


def test_a_model_without_the_number_comes_last(results, save):
    results["timing"] = None
    board = build_board("ds2", [save(results)], sort="gpu-100")
    assert board.rows[-1].entrant is not None
    assert board.rows[-1].rank is None


def test_times_of_another_machine_are_ranked_and_marked(results, save):
    board = build_board("ds2", [save(results)], sort="cpu-1")
    found = next(row for row in board.rows if row.entrant is not None)
    assert found.rank is not None
    marked = [column.key for column in COLUMNS if found.on_other_hardware(column)]
    assert marked == ["cpu_1"]
    assert not any(row.on_other_hardware(board.column) for row in board.rows if row.entrant is None)
    assert board.to_dict()["rows"][board.rows.index(found)]["other_hardware"] == ["cpu_1"]
