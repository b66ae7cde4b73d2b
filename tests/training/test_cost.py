"""Where the time of a run goes, by a clock that only moves when it is told to."""

import math
import signal

import pytest
import torch
from torch import nn

from treering.records import PARTS, Record
from treering.training import Interrupted, fit
from treering.training import checkpoint as checkpoints
from treering.training.batches import GeneratedBatches
from treering.training.cost import Stopwatch
from treering.training.kinds import Generated


class Clock:
    """Seconds are whole numbers here, so that their sums are exact."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now

    def spend(self, seconds, function):
        """`function` that takes so long."""

        def slow(*args, **kwargs):
            self.now += seconds
            return function(*args, **kwargs)

        return slow


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    for module in ("cost", "loop"):
        monkeypatch.setattr(f"treering.training.{module}.perf_counter", clock)
    return clock


@pytest.fixture
def slow(clock, monkeypatch):
    """Every part of a run takes a time of its own: of a step 2 + 3 + 5 + 7 seconds."""
    spend = clock.spend

    class Weighed(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, *gradients):
            clock.now += 5
            return gradients[0]

    monkeypatch.setattr(GeneratedBatches, "next", spend(2, GeneratedBatches.next))
    original = Generated.loss

    def loss(kind, batch):
        clock.now += 3
        value, score = original(kind, batch)
        return Weighed.apply(value), score

    monkeypatch.setattr(Generated, "loss", loss)
    monkeypatch.setattr(torch.optim.Adam, "step", spend(7, torch.optim.Adam.step))
    monkeypatch.setattr(Generated, "validate", spend(11, Generated.validate))
    monkeypatch.setattr(Generated, "test", spend(13, Generated.test))
    monkeypatch.setattr(checkpoints, "save", spend(17, checkpoints.save))
    return clock


def test_each_part_has_the_time_that_was_spent_in_it(
    slow, tmp_path, parity, tagger, small, blank, hook
):
    def tell(step):
        slow.now += 19

    settings = small(steps=6, validation_every=3, checkpoint_every=4)
    record = fit(
        tagger(parity),
        parity,
        settings,
        folder=tmp_path,
        seed=0,
        record=blank(parity),
        progress=hook(tell),
    )
    assert record.cost.where == {
        "data": 6 * 2,
        "forward": 6 * 3,
        "backward": 6 * 5,
        "optimizer": 6 * 7,
        "evaluation": 2 * 11 + 13,
        # At the start, after the fourth step, at the end.
        "checkpoint": 3 * 17,
        "rest": 6 * 19,
    }
    assert tuple(record.cost.where) == PARTS
    assert record.cost.wall_seconds == sum(record.cost.where.values())
    assert [point.seconds for point in record.learning] == [
        17 + 3 * 17 + 2 * 19 + 11,
        17 + 5 * 17 + 4 * 19 + 11 + 17,
        17 + 6 * 17 + 5 * 19 + 2 * 11 + 17,
    ]


def test_parts_add_up_to_the_whole_over_an_interruption(
    slow, tmp_path, parity, tagger, small, blank, hook
):
    def train(act):
        settings = small(steps=5, validation_every=2)
        return fit(
            tagger(parity),
            parity,
            settings,
            folder=tmp_path,
            seed=0,
            record=blank(parity),
            progress=hook(act),
        )

    def stop(step):
        if step == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted):
        train(stop)
    stopped = Record.load(tmp_path).cost
    assert stopped.wall_seconds == sum(stopped.where.values())
    # Between the two calls nobody trains.
    slow.now += 10**6
    cost = train(lambda step: None).cost
    # What the last save of the first call took is known only after it.
    assert cost.where == {
        "data": 5 * 2,
        "forward": 5 * 3,
        "backward": 5 * 5,
        "optimizer": 5 * 7,
        "evaluation": 3 * 11 + 13,
        "checkpoint": 2 * 17,
        "rest": 0,
    }
    assert cost.wall_seconds == sum(cost.where.values())


def test_a_part_that_raises_counts(clock):
    seconds = {"forward": 1.0}
    watch = Stopwatch(seconds, torch.device("cpu"))
    with pytest.raises(ZeroDivisionError), watch.part("forward"):
        clock.spend(4, lambda: 1 / 0)()
    assert seconds == {"forward": 5.0}


class Device:
    """A queue of work and of moments, as accelerators have one; time passes for it alone."""

    def __init__(self):
        self.queue = []
        self.now = 0.0
        self.waits = 0

    def launch(self, milliseconds):
        self.queue.append(milliseconds)

    def work(self, entries):
        for _ in range(entries):
            entry = self.queue.pop(0)
            if isinstance(entry, Moment):
                entry.at = self.now
            else:
                self.now += entry


class Moment:
    device: Device

    def __init__(self, device, enable_timing):
        assert (device.type, enable_timing) == ("cuda", True)
        self.at = math.inf

    def record(self):
        self.device.launch(self)

    def query(self):
        return self.at < math.inf

    def synchronize(self):
        self.device.waits += 1
        while not self.query():
            self.device.work(1)

    def elapsed_time(self, end):
        return end.at - self.at


def test_on_an_accelerator_parts_are_the_devices_and_nothing_waits(monkeypatch):
    device = Moment.device = Device()
    monkeypatch.setattr(torch, "Event", Moment)
    seconds = {}
    watch = Stopwatch(seconds, torch.device("cuda"))
    for _ in range(2):
        for part, milliseconds in (("forward", 3000), ("backward", 5000)):
            with watch.part(part):
                device.launch(milliseconds)
    assert (seconds, device.waits) == ({}, 0)
    # The first forward and backward are done, the second forward has only begun.
    device.work(7)
    with watch.part("data"):
        pass
    assert (seconds, device.waits) == ({"forward": 3.0, "backward": 5.0}, 0)
    watch.settle()
    assert seconds == {"forward": 6.0, "backward": 10.0, "data": 0.0}


def test_gradients_below_the_greatest_norm_are_left_alone_and_others_scaled(
    tmp_path, parity, tagger, small, blank, monkeypatch
):
    """The same numbers as of `clip_grad_norm_`, which scales by 1 what is not clipped."""
    norms = []
    original = nn.utils.get_total_norm

    def noted(gradients):
        norms.append(original(gradients))
        return norms[-1]

    monkeypatch.setattr(nn.utils, "get_total_norm", noted)
    fit(tagger(parity), parity, small(), folder=tmp_path / "probe", seed=0, record=blank(parity))
    clip = float(torch.stack(norms).median())
    assert min(norms) < 0.9 * clip
    assert max(norms) > 1.1 * clip

    ours, theirs = tagger(parity), tagger(parity)
    settings = small(clip=clip)
    fit(ours, parity, settings, folder=tmp_path / "a", seed=0, record=blank(parity))
    monkeypatch.setattr(
        "treering.training.loop._Run._clip",
        lambda run, step, loss, most: nn.utils.clip_grad_norm_(run.parameters, most),
    )
    fit(theirs, parity, settings, folder=tmp_path / "b", seed=0, record=blank(parity))
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, other)
