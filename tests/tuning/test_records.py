"""Records that the settings of a campaign cannot have given are refused before anything is built on them."""

from __future__ import annotations

import json

import pytest

from caloray.errors import IntegrityError
from caloray.tuning.director import Director
from caloray.tuning.ledger import Ledger, TrialResult

LR = "training.next_layer.schedule.max_lr"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": {"other": 18}}, "epochs {'other': 18}, expected {'next_layer': 18} on rung 0"),
        ({"assignment": {LR: 5.0}}, "its digest is not that of its settings and of the data"),
        ({"assignment": {"training.next_layer.clip": 5.0}}, "values of training.next_layer.clip, not of the"),
        ({"assignment": {LR: "x"}}, "the run config refuses its values"),
        ({"rung": 7}, "rung 7, the campaign's last one is 0"),
        ({"digest": "junk"}, "its digest is not that of its settings and of the data"),
        ({"seed": 77}, "its digest is not that of its settings and of the data"),
    ],
)
def test_a_record_that_these_settings_cannot_give_is_refused(load, change, message):
    campaign = load(baseline=False)
    ledger = Ledger(campaign.output)
    Director(campaign, ledger, "data").next()
    path = ledger.folder(0) / "trial.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(IntegrityError) as caught:
        Director(campaign, ledger, "data")
    assert caught.value.message.startswith(f"{path}: {message}")


def test_a_result_with_other_objectives_is_refused(load):
    campaign = load(baseline=False)
    ledger = Ledger(campaign.output)
    Director(campaign, ledger, "data").next()
    ledger.finish(TrialResult(0, "complete", {"fpd": 1.0}))
    with pytest.raises(IntegrityError, match="objectives fpd, the campaign's are nll_bits_per_dim"):
        Director(campaign, ledger, "data")
