"""The training loop of every network, on a line through two points: learning rate, precision, saving, resuming."""

import hashlib
import math
import os
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import wait
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import planted
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from tqdm import tqdm

from adtr.config.methods import Train
from adtr.errors import UserError
from adtr.files import saved
from adtr.methods import adtr, adtr_plus, autoencoder
from adtr.train import loop as training
from adtr.train import run as run_files
from adtr.train.context import Anomalies, Context, Fitted, precision
from adtr.train.run import load_state

IMAGES = 10


def settings(**changes: Any) -> Train:
    plain = {"epochs": 4, "batch_size": 4, "lr": 0.01, "weight_decay": 0.0, "lr_drop_at": 1.0, "save_minutes": 0}
    return planted.params(train=plain | changes).train


def optimize(context: Context, draw: Callable[[], Tensor] = lambda: torch.randperm(IMAGES), **changes: Any) -> Fitted:
    """A linear layer with dropout, so that the random state matters in every step, learns to double its input."""
    training.seeded(context.seed)
    network = nn.Sequential(nn.Dropout(0.1), nn.Linear(3, 3))
    images = torch.linspace(-1, 1, IMAGES * 3).reshape(IMAGES, 3)
    return training.optimize(
        network,
        draw,
        lambda batch: (network(images[batch]) - 2 * images[batch]).square().mean(),
        settings(**changes),
        context,
    )


def same(one: Fitted, other: Fitted) -> bool:
    pairs = [(one.state, other.state), *((one.snapshots[e], other.snapshots[e]) for e in one.snapshots)]
    equal = all(torch.equal(mine[name], its[name]) for mine, its in pairs for name in mine)
    return equal and one.history == other.history and [*one.snapshots] == [*other.snapshots]


# Learning rate


def schedule(**changes: float) -> Train:
    return settings(**{"lr": 1e-4, "lr_drop_at": 0.8, "lr_drop_factor": 0.1} | changes)


@pytest.mark.parametrize(
    ("epochs", "share", "last_before"),
    [(500, 0.8, 400), (300, 0.6667, 200), (300, 2 / 3, 200), (10, 1.0, 10), (5, 0.8, 4), (1, 0.8, 1)],
)
def test_the_learning_rate_drops_after_its_share_of_the_epochs(epochs: int, share: float, last_before: int) -> None:
    train = schedule(epochs=epochs, lr_drop_at=share)
    rates = [training.learning_rate(train, epoch, 10**6, 10**4) for epoch in range(1, epochs + 1)]
    assert rates == [1e-4] * last_before + [pytest.approx(1e-5, rel=1e-12)] * (epochs - last_before)


@pytest.mark.parametrize(
    ("epochs", "each", "warmup", "expected"),
    [
        (500, 10, 4, [0.25, 0.5, 0.75, 1, 1, 1]),
        (20, 2, 50, [0.25, 0.5, 0.75, 1, 1, 1]),  # a tenth of 40 steps
        (500, 10, 0, [1]),
    ],
)
def test_the_learning_rate_warms_up_linearly_over_its_steps_or_a_tenth_of_all(
    epochs: int, each: int, warmup: int, expected: list[float]
) -> None:
    train = schedule(epochs=epochs, warmup_steps=warmup)
    rates = [training.learning_rate(train, 1, step, each) for step in range(len(expected))]
    assert rates == pytest.approx([1e-4 * share for share in expected], rel=1e-12)


def test_a_drop_during_the_warm_up_multiplies_it() -> None:
    train = schedule(epochs=2, lr_drop_at=0.5, warmup_steps=8)
    assert training.learning_rate(train, 2, 3, 100) == pytest.approx(0.5 * 1e-5, rel=1e-12)


# The loop


def test_history_has_a_row_an_epoch_and_the_loss_falls() -> None:
    fitted = optimize(Context(0), epochs=30, warmup_steps=6, lr_drop_at=0.5)
    losses = [row["loss"] for row in fitted.history]
    assert [row["epoch"] for row in fitted.history] == list(range(1, 31))
    assert losses[-1] < losses[0]
    # three steps an epoch: the sixth step, the last of epoch 2, is the first at full rate; dropped from epoch 16 on
    assert [row["lr"] for row in fitted.history] == pytest.approx([0.005] + 14 * [0.01] + 15 * [0.001], rel=1e-12)
    assert fitted.parameters == 3 * 3 + 3


def test_every_image_that_is_drawn_is_seen_once_in_batches_of_the_size_asked_for() -> None:
    seen: list[list[int]] = []
    weight = nn.Linear(1, 1)

    def loss(batch: Tensor) -> Tensor:
        seen.append(batch.tolist())
        return weight(torch.ones(1)).square().mean()

    training.optimize(weight, lambda: torch.arange(IMAGES), loss, settings(epochs=2), Context(0))
    assert seen == 2 * [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize("grad_clip", [0.0, 0.1])
def test_a_batch_in_pieces_has_the_gradient_of_the_whole(grad_clip: float) -> None:
    images = torch.linspace(-1, 1, IMAGES * 3, dtype=torch.float64).reshape(IMAGES, 3)
    fitted = []
    for piece in (None, 3, 1):
        torch.manual_seed(0)
        network = nn.Linear(3, 3).double()

        def loss(batch: Tensor, network: nn.Module = network) -> Tensor:
            return (network(images[batch]) - 2 * images[batch]).square().mean()

        fitted.append(
            training.optimize(
                network, lambda: torch.arange(IMAGES), loss, settings(epochs=3, grad_clip=grad_clip), Context(0), piece
            )
        )
    for other in fitted[1:]:
        torch.testing.assert_close(other.state, fitted[0].state, rtol=0, atol=1e-12)
        assert [row["loss"] for row in other.history] == pytest.approx([row["loss"] for row in fitted[0].history])


def test_a_piece_is_a_batch_where_it_is_normalised_or_on_a_gpu() -> None:
    exact, half = settings(precision="float32"), settings(precision="bfloat16")
    assert training.piece_size(nn.Linear(1, 1), 256, exact, "cpu") == 2
    assert training.piece_size(nn.Linear(1, 1), 256, half, "cpu") == 4
    assert training.piece_size(nn.Linear(1, 1), 4096, half, "cpu") == 1
    assert training.piece_size(nn.Linear(1, 1), 256, half, "cuda") is None
    assert training.piece_size(nn.Sequential(nn.BatchNorm2d(1)), 256, half, "cpu") is None


def test_the_loss_of_an_epoch_is_the_mean_over_its_images() -> None:
    weight = nn.Linear(1, 1)
    losses = iter([1.0, 2.0, 6.0])  # of batches of 4, 4 and 2
    fitted = training.optimize(
        weight,
        lambda: torch.arange(IMAGES),
        lambda _: weight.bias.sum() * 0 + next(losses),
        settings(epochs=1),
        Context(0),
    )
    assert fitted.history[0]["loss"] == pytest.approx((4 * 1 + 4 * 2 + 2 * 6) / 10, rel=1e-6)


@pytest.mark.parametrize("changes", [{"lr": 1e30}, {"lr": 1e25, "grad_clip": 1.0}], ids=str)
def test_a_loss_that_is_not_finite_ends_the_training(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the loss is (nan|inf) in epoch \d+: lower lr \(1e\+\d\d\) or set grad_clip"):
        optimize(Context(0, state=tmp_path), **changes)
    assert not list(tmp_path.iterdir())  # a broken state is not saved


@pytest.mark.parametrize("asked", ["float32", "bfloat16"])
def test_a_forward_pass_is_in_the_precision_asked_for(asked: str) -> None:
    with training.autocast(settings(precision=asked), "cpu"):
        assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == {"float32": torch.float32, "bfloat16": torch.bfloat16}[asked]
    assert precision(asked, "cpu") == asked


# On a GPU


@pytest.mark.parametrize(("device", "asked"), [("cuda", True), ("cuda:1", True), ("cuda", False), ("cpu", True)])
def test_deterministic_kernels_are_asked_for_on_a_gpu_alone(
    device: str, asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment: dict[str, str] = {}
    monkeypatch.setattr(os, "environ", environment)
    with training.deterministic(settings(deterministic=asked), device):
        expected = asked and device != "cpu"
        assert torch.are_deterministic_algorithms_enabled() == expected
        assert ("CUBLAS_WORKSPACE_CONFIG" in environment) == expected
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("asked", ["float32", "bfloat16"])
def test_deterministic_kernels_repeat_a_training_on_a_gpu(asked: str) -> None:
    train = {"epochs": 10, "precision": asked, "deterministic": True}
    normal, test = planted.features()
    one, other = (
        adtr.fit(normal, planted.params(train=train, model={"dropout": 0.1}), context("cuda", test, normal))
        for _ in range(2)
    )
    assert same(one, other)


CASES = [(adtr, {"model": {"variant": variant}}) for variant in ("transformer", "no_attention", "no_query", "cnn")]
CASES += [(adtr_plus, {"adtr_plus": {"loss": loss}}) for loss in ("pixel", "image")] + [(autoencoder, {})]
NETWORKS = pytest.mark.parametrize(("method", "changes"), CASES, ids=lambda x: getattr(x, "__name__", str(x)))


class OnDeviceOnly(TorchDispatchMode):
    """Refuses operations on tensors of the host, but for scalars."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        assert not any(x.is_cpu and x.ndim for x in tensors), func
        return func(*args, **(kwargs or {}))


def context(device: str, test: np.ndarray, normal: np.ndarray) -> Context:
    """What every network may need."""
    start = adtr.fit(normal, planted.params(train={"epochs": 1}), Context(0)).state
    return Context(0, device, start=start, anomalies=Anomalies(test, torch.zeros(test.shape[:2], dtype=torch.bool)))


@NETWORKS
def test_loss_and_gradient_leave_the_host_alone(
    method: ModuleType, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a GPU can record them. The device "meta" has no values: whatever asks for one raises."""
    normal, test = planted.features()
    losses: list[Tensor] = []

    def one_step(network: nn.Module, _: Any, loss: Callable[[Tensor], Tensor], *__: Any) -> Fitted:
        with OnDeviceOnly():
            losses.append(loss(torch.zeros(4, dtype=torch.long, device="meta")))
            losses[0].backward()
        assert all(parameter.grad is not None for parameter in network.parameters())
        return Fitted({})

    known = context("meta", test, normal)
    monkeypatch.setattr(method, "optimize", one_step)
    method.fit(normal, planted.params(**changes), known)
    assert losses[0].shape == ()
    with pytest.raises(RuntimeError, match="meta"):
        losses[0].item()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("asked", ["float32", "bfloat16"])
@NETWORKS
def test_recorded_steps_learn_what_launched_ones_do(
    method: ModuleType, changes: dict[str, Any], asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By losses and maps: biases of keys change nothing, and their gradients are rounding errors."""
    normal, test = planted.features()
    replay, replayed, losses, maps = torch.cuda.CUDAGraph.replay, Counter[int](), [], []

    def counted(graph: torch.cuda.CUDAGraph) -> None:
        replayed[id(graph)] += 1
        replay(graph)

    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", counted)
    for capture in (False, True):
        train = {"epochs": 30, "capture": capture, "precision": asked, "grad_clip": 1.0, "warmup_steps": 3}
        params = planted.params(train=train, **changes | {"model": {"dropout": 0.1} | changes.get("model", {})})
        fitted = method.fit(normal, params, context("cuda", test, normal))
        losses.append([row["loss"] for row in fitted.history])
        maps.append(torch.from_numpy(method.anomaly_map(fitted.state, test, params, "cuda")))
        assert bool(replayed) == capture
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)
    torch.testing.assert_close(maps[1], maps[0], rtol=5e-2, atol=5e-2)


# Snapshots


@pytest.mark.parametrize(
    ("epochs", "snapshots", "expected"),
    [(40, 4, {10, 20, 30}), (10, 3, {3, 7}), (5, 1, set()), (5, 0, set()), (2, 9, {1}), (1, 4, set())],
)
def test_snapshots_are_evenly_spaced_and_the_last_is_the_model(epochs: int, snapshots: int, expected: set[int]) -> None:
    assert training.snapshot_epochs(settings(epochs=epochs, snapshots=snapshots)) == expected


def test_a_snapshot_is_the_model_of_a_training_that_ends_there() -> None:
    whole = optimize(Context(0), epochs=4, snapshots=4)
    assert sorted(whole.snapshots) == [1, 2, 3]
    for epoch, snapshot in whole.snapshots.items():
        short = optimize(Context(0), epochs=epoch)
        assert all(torch.equal(short.state[name], snapshot[name]) for name in snapshot)


# Resuming


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_training_resumed_at_any_epoch_gives_the_bytes_of_an_undisturbed_one(
    stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = optimize(Context(0), lr_drop_at=0.75, snapshots=4)
    with monkeypatch.context() as patch:
        patch.setattr(training, "_report", interrupted_in(stop + 1, training._report))
        with pytest.raises(KeyboardInterrupt):
            optimize(Context(0, state=tmp_path), lr_drop_at=0.75, snapshots=4)
    assert len((load_state(tmp_path) or {})["history"]) == stop
    torch.rand(stop)  # whatever happened in between
    assert [*whole.snapshots] == [1, 2, 3]
    assert same(whole, optimize(Context(0, state=tmp_path), lr_drop_at=0.75, snapshots=4))


def test_the_last_state_holds_no_optimizer_and_is_not_trained_again(tmp_path: Path) -> None:
    context = Context(0, state=tmp_path)
    first = optimize(context, snapshots=2)
    assert set(load_state(tmp_path) or {}) == {"model", "history", "snapshots", "seconds"}
    drawn: list[None] = []
    again = optimize(context, lambda: drawn.append(None) or torch.randperm(IMAGES), snapshots=2)  # type: ignore[func-returns-value]
    assert not drawn
    assert [*first.snapshots] == [2]
    assert same(first, again)
    assert again.seconds_before > first.seconds_before == 0


def interrupted_in(last: int, report: Callable[..., None]) -> Callable[..., None]:
    def stop(bar: tqdm, row: dict[str, float], epochs: int, speed: float) -> None:
        report(bar, row, epochs, speed)
        if row["epoch"] == last:
            raise KeyboardInterrupt

    return stop


@pytest.mark.parametrize(("minutes", "saved"), [(0.0, 5), (1, 5), (1.5, 4), (3, 3), (9, 0)])
def test_the_state_is_saved_every_so_many_minutes_at_the_end_of_an_epoch(
    minutes: float, saved: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch takes a minute here."""
    clock = [0.0]

    def draw() -> Tensor:
        clock[0] += 60
        return torch.randperm(IMAGES)

    monkeypatch.setattr(training, "_report", interrupted_in(6, training._report))
    monkeypatch.setattr(run_files.time, "monotonic", lambda: clock[0])
    with pytest.raises(KeyboardInterrupt):
        optimize(Context(0, state=tmp_path), draw, epochs=9, save_minutes=minutes)
    assert len((load_state(tmp_path) or {"history": []})["history"]) == saved


def test_the_training_goes_on_while_its_state_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written is the state at the end of its epoch, though the weights have changed since."""
    save, report, reached = run_files.save_state, training._report, threading.Event()
    written: dict[int, dict[str, Tensor]] = {}

    def slow(folder: Path, state: dict[str, Any]) -> None:
        assert reached.wait(60), "the training waits"
        save(folder, state)
        written[len(state["history"])] = (load_state(folder) or {})["model"]

    def progress(bar: tqdm, row: dict[str, float], *others: Any) -> None:
        report(bar, row, *others)
        if row["epoch"] == 2:
            reached.set()

    with monkeypatch.context() as patch:
        patch.setattr(run_files, "save_state", slow)
        patch.setattr(training, "_report", progress)
        optimize(Context(0, state=tmp_path), epochs=3)
    assert [*written] == [1, 2, 3]
    for epoch, model in written.items():
        short = optimize(Context(0), epochs=epoch).state
        assert all(torch.equal(model[name], short[name]) for name in short)


def test_a_state_that_cannot_be_saved_ends_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise UserError("no space left")

    monkeypatch.setattr(run_files, "save_state", refused)
    for minutes in (0, 60):  # noticed before the next state is saved, or at the end
        with pytest.raises(UserError, match="no space left"):
            optimize(Context(0, state=tmp_path), save_minutes=minutes)
    saver = run_files.Saver(tmp_path, math.inf, lambda: None)
    saver.save({})
    wait([saver._saved])
    with pytest.raises(UserError, match="no space left"):
        saver.due()  # though none is


def test_who_lost_the_lock_saves_no_state(tmp_path: Path) -> None:
    def lost() -> None:
        raise UserError("another has taken over")

    with pytest.raises(UserError, match="another has taken over"):
        optimize(Context(0, state=tmp_path, held=lost))
    assert load_state(tmp_path) is None


def broken_off(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the states after epochs 2 and 3 of 4."""
    with monkeypatch.context() as patch:
        patch.setattr(training, "_report", interrupted_in(4, training._report))
        with pytest.raises(KeyboardInterrupt):
            optimize(Context(0, state=state))


@pytest.mark.parametrize("damage", ["bit", "cut", "empty", "another training's", "a list", "gone"])
@pytest.mark.parametrize("both", [False, True])
def test_a_damaged_state_is_told_and_costs_epochs_only(
    damage: str, both: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken_off(tmp_path / "own", monkeypatch)
    broken_off(tmp_path / "other", monkeypatch)
    for name in ("state.pt", "before.pt")[: 1 + both]:
        path = tmp_path / "own" / name
        whole = path.read_bytes()
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 4
        damages: dict[str, bytes] = {
            "bit": bytes(flipped),
            "cut": whole[:-100],
            "empty": b"",
            "a list": with_checksum([1]),
        }
        path.unlink()
        if damage != "gone":
            path.write_bytes(damages.get(damage, (tmp_path / "other" / name).read_bytes()))
    caplog.set_level("INFO")
    assert same(optimize(Context(0)), optimize(Context(0, state=tmp_path / "own")))
    assert damage == "gone" or "state.pt is damaged and not used" in caplog.text
    assert ("resumes after epoch 2" in caplog.text) is not both


@pytest.mark.parametrize("content", ["bit", "another training's", "gone"])
def test_a_damaged_state_never_takes_the_place_of_a_good_one(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk right after resuming: the state before is still there."""
    broken_off(tmp_path / "own", monkeypatch)
    broken_off(tmp_path / "other", monkeypatch)
    path = tmp_path / "own/state.pt"
    raw = path.read_bytes()
    path.unlink()
    if content != "gone":
        path.write_bytes(
            raw[:-1] + bytes([raw[-1] ^ 1]) if content == "bit" else (tmp_path / "other/state.pt").read_bytes()
        )
    with monkeypatch.context() as patch:
        patch.setattr(run_files, "write_bytes", full)
        with pytest.raises(UserError, match="no space"):
            optimize(Context(0, state=tmp_path / "own"))
    assert len((load_state(tmp_path / "own") or {"history": []})["history"]) == 2


def full(path: Path, _: object) -> None:
    raise UserError(f"no space left to write {path}")


def with_checksum(content: object) -> bytes:
    raw = saved(lambda file: torch.save(content, file))
    return raw + hashlib.sha256(raw).digest()
