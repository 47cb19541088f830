"""The training loop: learns, resumes exactly, refuses what it cannot trust."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from caloray.atomic import sha256_file
from caloray.errors import CheckpointError, InterruptedRunError, NumericalError
from caloray.interrupt import StopRequest
from caloray.training import files
from caloray.training.checkpoint import CheckpointStore
from caloray.training.files import ComponentFolder
from caloray.training.run import train_component

DROPOUT = {"flows": {"layer_energies": {"blocks": 2, "hidden": 16, "dropout": 0.2}}}


class StopAfter(StopRequest):
    """Asks for a stop after so many steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    @property
    def requested(self) -> bool:
        self.steps -= 1
        if self.steps == 0:
            self.request()
        return super().requested


@pytest.fixture(scope="module")
def data(toy):
    return toy.store_of(toy.showers()), toy.store_of(toy.showers(60, 1))


@pytest.fixture
def train(toy, data, tmp_path):
    """Train in a folder below the temporary one."""

    def run(folder: str = "a", stop: StopRequest | None = None, **changes):
        return train_component(toy.request(tmp_path / folder, **changes), *data, stop=stop)

    return run


def history(folder) -> list[dict]:
    return [json.loads(line) for line in ComponentFolder(folder).history_file.read_text().splitlines()]


def timeless(rows: list[dict]) -> list[dict]:
    return [{k: v for k, v in row.items() if k not in {"seconds", "rows_per_second"}} for row in rows]


def test_what_a_training_leaves(train, toy, tmp_path):
    result = train(epochs=3)
    folder = ComponentFolder(tmp_path / "a")
    rows = history(tmp_path / "a")
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    assert [row["step"] for row in rows] == [4, 8, 12]
    for row in rows:
        assert math.isfinite(row["train_loss"])
        assert row["val_loss_per_dim"] == pytest.approx(row["val_loss"] / 12)
    assert result == folder.result()
    assert result.sha256 == sha256_file(folder.weights_file)
    assert (result.component, result.epochs) == ("first_layer", 3)
    assert result.parameters == toy.scheme().component("first_layer").parameters
    progress = json.loads(folder.progress_file.read_text())
    assert (progress["step"], progress["total_steps"], progress["epoch"]) == (12, 12, 3)
    flow = toy.scheme().component("first_layer").build()
    flow.load_state_dict(folder.weights())
    assert not list((tmp_path / "a").rglob("*.tmp"))


@pytest.mark.parametrize("name", ["layer_energies", "first_layer", "next_layer"])
def test_it_learns(toy, tmp_path, name):
    """A toy distribution is overfitted: the loss falls far below that of the untrained flow."""
    store = toy.store_of(toy.showers(100))
    changes = {"epochs": 40, "batch": 50, "schedule": {"kind": "constant"}, "learning_rate": 5e-3}
    train_component(toy.request(tmp_path, name, checkpoint_steps=None, **changes), store, store)
    rows = history(tmp_path)
    assert rows[-1]["train_loss"] < rows[0]["train_loss"] - 2
    assert rows[-1]["val_loss"] < rows[0]["val_loss"] - 2
    assert min(row["val_loss"] for row in rows) == ComponentFolder(tmp_path).result().validation_loss


@pytest.mark.parametrize("stop_after", [1, 3, 4, 5, 7, 8])
def test_a_stopped_training_ends_like_an_undisturbed_one(train, tmp_path, stop_after):
    """G22: before and after a checkpoint, in the middle and at the end of an epoch of four steps."""
    undisturbed = train("undisturbed", epochs=3)
    with pytest.raises(InterruptedRunError) as caught:
        train(epochs=3, stop=StopAfter(stop_after))
    assert caught.value.context["signal"] == 15
    assert (tmp_path / "a" / "checkpoints" / f"step-{stop_after:08d}").is_dir()
    assert ComponentFolder(tmp_path / "a").result() is None
    resumed = train(epochs=3)
    assert resumed.sha256 == undisturbed.sha256
    assert resumed.validation_loss == undisturbed.validation_loss
    assert timeless(history(tmp_path / "a")) == timeless(history(tmp_path / "undisturbed"))


def test_a_stop_at_every_step(train):
    undisturbed = train("undisturbed")
    for _ in range(8):
        with pytest.raises(InterruptedRunError):
            train(stop=StopAfter(1))
    assert train().sha256 == undisturbed.sha256


@pytest.mark.parametrize("schedule", ["onecycle", "cyclic", "exponential", "constant"])
def test_every_schedule_and_optimizer_resumes(train, schedule):
    changes = {"schedule": {"kind": schedule}, "optimizer": "adamw", "weight_decay": 0.01, "clip": 5.0}
    with pytest.raises(InterruptedRunError):
        train(stop=StopAfter(5), **changes)
    assert train(**changes).sha256 == train("undisturbed", **changes).sha256


def test_dropout_masks_are_part_of_the_resumable_state(train):
    changes = {"name": "layer_energies", "scheme_changes": DROPOUT}
    torch.manual_seed(1)
    undisturbed = train("undisturbed", **changes)
    torch.manual_seed(2)
    with pytest.raises(InterruptedRunError):
        train(stop=StopAfter(3), **changes)
    state = torch.random.get_rng_state()
    assert train(**changes).sha256 == undisturbed.sha256
    assert torch.equal(torch.random.get_rng_state(), state)


def test_seed_and_data_change_the_result(toy, data, tmp_path):
    one = train_component(toy.request(tmp_path / "1"), *data)
    other = toy.request(tmp_path / "2")
    other = type(other)(other.component, other.config, other.directory, seed=2, identity={})
    assert train_component(other, *data).sha256 != one.sha256
    fewer = toy.store_of(toy.showers(seed=4))
    assert train_component(toy.request(tmp_path / "3"), fewer, data[1]).sha256 != one.sha256


def test_a_finished_component_returns_at_once(train, tmp_path, monkeypatch):
    first = train()
    before = sorted((p.name, p.stat().st_mtime_ns) for p in (tmp_path / "a" / "checkpoints").iterdir())
    monkeypatch.setattr(CheckpointStore, "load_newest", lambda _: pytest.fail("looked for checkpoints"))
    assert train() == first
    assert (
        sorted((p.name, p.stat().st_mtime_ns) for p in (tmp_path / "a" / "checkpoints").iterdir()) == before
    )


@pytest.mark.parametrize("damage", ["flipped", "missing", "record", "other record"])
def test_a_tampered_result_is_refused_and_rebuilt(train, tmp_path, damage):
    first = train()
    folder = ComponentFolder(tmp_path / "a")
    record = folder.path / "result" / "component.json"
    if damage == "flipped":
        data = bytearray(folder.weights_file.read_bytes())
        data[-1] ^= 1
        folder.weights_file.write_bytes(bytes(data))
    elif damage == "missing":
        folder.weights_file.unlink()
    else:
        record.write_text("{" if damage == "record" else '{"a": 1}')
    with pytest.raises(CheckpointError) as caught:
        train()
    assert "remove the folder 'result'" in caught.value.hint
    for file in (folder.path / "result").iterdir():
        file.unlink()
    (folder.path / "result").rmdir()
    assert train().sha256 == first.sha256


def test_a_killed_last_epoch_still_has_its_line_in_the_history(train, tmp_path, monkeypatch):
    """The checkpoint of an epoch is written before its line; a kill may come between the two."""

    class PowerCutError(BaseException):
        pass

    def die(*_: object) -> None:
        raise PowerCutError

    with monkeypatch.context() as patch:
        real = files.ComponentFolder.write_history
        patch.setattr(
            files.ComponentFolder, "write_history", lambda f, rows: die() if len(rows) == 2 else real(f, rows)
        )
        with pytest.raises(PowerCutError):
            train()
    train()
    assert [row["epoch"] for row in history(tmp_path / "a")] == [0, 1]


@pytest.mark.parametrize("damage", ["truncate", "flip"])
def test_a_damaged_newest_checkpoint_costs_time_not_the_result(train, tmp_path, caplog, damage):
    with pytest.raises(InterruptedRunError):
        train(stop=StopAfter(7))
    newest = max((tmp_path / "a" / "checkpoints").iterdir()) / "state.pt"
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(bytes(data) if damage == "flip" else bytes(data)[: len(data) // 2])
    assert train().sha256 == train("undisturbed").sha256
    assert "step-00000007" in caplog.text


def test_without_any_good_checkpoint_it_does_not_start_again(train, tmp_path):
    with pytest.raises(InterruptedRunError):
        train(stop=StopAfter(7))
    for folder in (tmp_path / "a" / "checkpoints").iterdir():
        (folder / "state.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match="none of 2 checkpoints"):
        train()
    assert ComponentFolder(tmp_path / "a").result() is None


def test_a_changed_config_is_refused_with_the_fields(train, toy, data, tmp_path):
    """G24."""
    with pytest.raises(InterruptedRunError):
        train(stop=StopAfter(3))
    with pytest.raises(CheckpointError, match=r"training\.batch: 50 -> 40; training\.epochs: 2 -> 5"):
        train(batch=40, epochs=5)
    with pytest.raises(CheckpointError, match=r"training\.schedule\.max_lr"):
        train(schedule={"kind": "onecycle", "max_lr": 0.5})
    other = toy.request(tmp_path / "a")
    other.identity["data"] = "changed"
    with pytest.raises(CheckpointError, match="data: 'toy' -> 'changed'"):
        train_component(other, *data)
    assert train().sha256 == train("undisturbed").sha256


def test_free_fields_may_change(train):
    with pytest.raises(InterruptedRunError):
        train(stop=StopAfter(3))
    assert train(patience=50, checkpoint_steps=3).sha256 == train("undisturbed").sha256


def test_epochs_are_free_where_the_schedule_does_not_hang_on_them(train):
    constant = {"schedule": {"kind": "constant"}}
    with pytest.raises(InterruptedRunError):
        train(stop=StopAfter(3), **constant)
    longer = train(epochs=4, **constant)
    assert longer.epochs == 4
    assert longer.sha256 == train("undisturbed", epochs=4, **constant).sha256


def test_a_damaged_identity_is_told(train, tmp_path):
    with pytest.raises(InterruptedRunError):
        train(stop=StopAfter(3))
    (tmp_path / "a" / "identity.json").write_text('{"training":')
    with pytest.raises(CheckpointError, match=r"identity\.json: unreadable"):
        train()


def poison(monkeypatch, toy, at: int, how) -> None:
    """Change the batch of one training step."""
    part = type(toy.scheme().component("first_layer"))
    real, calls = part.batch, []

    def batch(self, store, rows, draws, dtype=torch.float32):
        target, context = real(self, store, rows, draws)
        if len(rows) == 50:  # validation batches here are smaller: 10 and 50 of 60
            calls.append(1)
            if len(calls) == at:
                return how(target), context
        return target, context

    monkeypatch.setattr(part, "batch", batch)


def test_a_loss_that_is_not_finite_stops_before_the_update(train, toy, monkeypatch, tmp_path):
    """G23."""
    with monkeypatch.context() as patch:
        poison(patch, toy, 4, lambda target: target * torch.nan)
        with pytest.raises(
            NumericalError, match="component first_layer: loss is nan in epoch 0, step 3"
        ) as caught:
            train()
    assert caught.value.context == {"component": "first_layer", "epoch": 0, "step": 3}
    assert "events [" in caught.value.message
    assert ComponentFolder(tmp_path / "a").result() is None
    state = CheckpointStore(tmp_path / "a" / "checkpoints").load_newest()
    assert (state["epoch"], state["step"]) == (0, 2)
    assert all(value.isfinite().all() for value in state["flow"].values())
    # The cause was transient here, so the run goes on as if nothing had been.
    assert train().sha256 == train("undisturbed").sha256


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_stops_before_the_update(train, toy, monkeypatch, tmp_path, bad):
    real, calls = torch.Tensor.backward, []

    def backward(self, *args, **kwargs):
        real(self, *args, **kwargs)
        calls.append(1)
        if len(calls) == 7:
            for parameter in parameters(self):
                parameter.grad[...] = bad

    def parameters(loss):
        seen, todo = [], [loss.grad_fn]
        while todo:
            node = todo.pop()
            if hasattr(node, "variable"):
                return [node.variable]
            todo.extend(following for following, _ in node.next_functions if following is not None)
        return seen

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "backward", backward)
        with pytest.raises(NumericalError, match=r"gradient norm is (nan|inf) in epoch 1, step 2"):
            train()
    state = CheckpointStore(tmp_path / "a" / "checkpoints").load_newest()
    assert (state["epoch"], state["step"]) == (1, 2)
    assert train().sha256 == train("undisturbed").sha256


def test_a_validation_loss_that_is_not_finite_is_no_best_one(train, toy, monkeypatch, tmp_path):
    part = type(toy.scheme().component("first_layer"))
    real = part.batch

    def batch(self, store, rows, draws, dtype=torch.float32):
        target, context = real(self, store, rows, draws)
        return (target * torch.nan if len(rows) == 10 else target), context

    with monkeypatch.context() as patch:
        patch.setattr(part, "batch", batch)
        with pytest.raises(NumericalError, match="validation loss is nan in epoch 0"):
            train()
    assert ComponentFolder(tmp_path / "a").result() is None


def worsening(monkeypatch, best: int) -> None:
    """Validation losses that fall until epoch ``best`` and rise afterwards."""
    from caloray.training.run import _Loop

    monkeypatch.setattr(_Loop, "_validate", lambda self: abs(self.epoch - best) + 1.0)


@pytest.mark.parametrize("stop_after", [None, 13])
def test_patience_ends_a_training_that_gets_worse(train, tmp_path, monkeypatch, stop_after):
    worsening(monkeypatch, 1)
    if stop_after is not None:
        with pytest.raises(InterruptedRunError):
            train(epochs=20, patience=3, stop=StopAfter(stop_after))
    result = train(epochs=20, patience=3)
    assert (result.epochs, result.selected_epoch, result.validation_loss) == (5, 1, 1.0)
    assert len(history(tmp_path / "a")) == 5


@pytest.mark.parametrize("stop_after", [None, 11])
def test_best_and_last_weights(train, tmp_path, monkeypatch, stop_after):
    worsening(monkeypatch, 1)
    results = {}
    for select in ("best", "last"):
        if stop_after is not None:
            with pytest.raises(InterruptedRunError):
                train(select, select=select, epochs=4, stop=StopAfter(stop_after))
        results[select] = train(select, select=select, epochs=4)
    assert (results["best"].selected_epoch, results["best"].validation_loss) == (1, 1.0)
    assert (results["last"].selected_epoch, results["last"].validation_loss) == (3, 3.0)
    states = {}
    for select, name in [("best", "step-00000016"), ("last", "step-00000016")]:
        states[select] = torch.load(tmp_path / select / "checkpoints" / name / "state.pt", weights_only=True)
    last = ComponentFolder(tmp_path / "last").weights()
    best = ComponentFolder(tmp_path / "best").weights()
    assert all(torch.equal(last[key], value) for key, value in states["last"]["flow"].items())
    assert all(torch.equal(best[key], value) for key, value in states["best"]["best"]["weights"].items())
    assert any(not torch.equal(best[key], last[key]) for key in last)


def test_the_validation_loss_is_the_mean_over_its_rows(train, toy, data, tmp_path):
    train(select="last", epochs=1, dtype="float64")
    flow = toy.scheme().component("first_layer").build().double().eval()
    flow.load_state_dict(ComponentFolder(tmp_path / "a").weights())
    from caloray.training.rows import RowPlan

    plan = RowPlan(toy.scheme().component("first_layer"), data[1], 50, 1, dtype=torch.float64)
    losses = []
    with torch.no_grad():
        for piece, key in plan.fixed_batches(60):
            target, context = plan.fixed_batch(piece, key)
            losses.append(-flow.log_prob(target, context).numpy())
    assert history(tmp_path / "a")[0]["val_loss"] == pytest.approx(np.concatenate(losses).mean(), rel=1e-9)


def test_a_finished_component_is_not_mistaken_for_another_request(train):
    """Neither other settings nor more epochs give an old result silently; the fields are named."""
    constant = {"schedule": {"kind": "constant"}}
    first = train(epochs=2, **constant)
    assert train(epochs=2, patience=5, **constant) == first
    with pytest.raises(CheckpointError, match=r"training\.epochs: 2 -> 4"):
        train(epochs=4, **constant)
    with pytest.raises(CheckpointError, match=r"training\.learning_rate"):
        train(epochs=2, learning_rate=5e-3, **constant)
