"""A run that was stopped anywhere ends with the bits of one that was not."""

import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

import treering as tr
from treering._errors import UserError
from treering.models import LanguageModel
from treering.records import STEP_PARTS, Record
from treering.training import Interrupted, fit, restore
from treering.training import checkpoint as checkpoints

CASES = ("generated", "growing", "dataset", "buckets", "schedule", "stream", "tree")


class Outcome(NamedTuple):
    tensors: dict[str, torch.Tensor]
    record: Record


@pytest.fixture
def train(parity, dataset, stream, tagger, follower, small, blank, learned_penalty):
    """Train a fresh model, differently initialised every time, in the given folder."""
    count = 0

    def run(case: str, folder, progress=None, seed: int | None = None, **changes: Any) -> Outcome:
        nonlocal count
        count += 1
        seed = count if seed is None else seed
        if case == "tree":
            task = stream()
            torch.manual_seed(seed)
            layer = tr.PRLSTM(4, 5, num_layers=2, dropout=0.4, batch_first=True)
            model = LanguageModel(layer, task.input_size, 4)
        elif case == "stream":
            task = stream()
            model = follower(task, dropout=0.4, seed=seed)
        else:
            task = dataset() if case in ("dataset", "buckets", "schedule") else parity
            model = tagger(task, dropout=0.4, seed=seed)
        penalty = learned_penalty(model.head)
        if case in ("dataset", "buckets", "schedule", "stream", "tree"):
            given = {"epochs": 3, "log_every": 4, "truncate": 5}
            if case == "buckets":
                given["bucket"] = 2
            elif case == "schedule":
                rates = {"learning_rate_schedule": "cosine", "warmup_steps": 7}
                given |= rates | {"weight_decay": 0.1}
        else:
            given = {"validation_every": 7, "select": "best validation"}
            if case == "growing":
                given["curriculum"] = {"longest": 8, "kind": "growing", "grow_for": 0.9}
        record = fit(
            model,
            task,
            small(**(given | changes)),
            folder=folder,
            seed=11,
            record=blank(task),
            penalties=[penalty],
            progress=progress,
        )
        tensors = model.state_dict() | {"p." + k: v for k, v in penalty.state_dict().items()}
        return Outcome(tensors, record)

    return run


def same(one: Outcome, other: Outcome) -> None:
    assert one.tensors.keys() == other.tensors.keys()
    for name, tensor in one.tensors.items():
        assert torch.equal(tensor, other.tensors[name]), name
    for outcome in (one, other):
        assert outcome.record.status == "finished"
    curves = [
        [point.model_dump(exclude={"seconds"}) for point in outcome.record.learning]
        for outcome in (one, other)
    ]
    assert curves[0] == curves[1]
    assert one.record.evaluation == other.record.evaluation
    assert one.record.cost.train_tokens == other.record.cost.train_tokens


def press_ctrl_c_at(step):
    return lambda now: os.kill(os.getpid(), signal.SIGINT) if now == step else None


def fail_at(step, error=RuntimeError):
    def act(now):
        if now == step:
            raise error("pulled the plug")

    return act


@pytest.mark.parametrize("case", CASES)
def test_ctrl_c_anywhere_changes_no_bit(case, train, tmp_path, hook):
    whole = train(case, tmp_path / "whole", seed=0)
    steps = whole.record.learning[-1].step
    # In mid-epoch, between points of the curve, after a validation, at an epoch's end, at the end.
    for step in (1, 6, 7, 13, steps):
        folder = tmp_path / str(step)
        with pytest.raises(Interrupted) as caught:
            train(case, folder, hook(press_ctrl_c_at(step)), seed=0)
        assert (caught.value.folder, caught.value.step) == (folder, step)
        assert Record.load(folder).status == "interrupted"
        torch.manual_seed(step)
        watcher = hook()
        same(whole, train(case, folder, watcher))
        assert watcher.messages[0] == f"going on from step {step}"
        assert len(watcher.steps) == steps - step


@pytest.mark.parametrize("case", CASES)
def test_stopped_after_every_single_step(case, train, tmp_path, hook):
    whole = train(case, tmp_path / "whole", seed=0)
    steps = whole.record.learning[-1].step
    for step in range(1, steps + 1):
        with pytest.raises(Interrupted, match=rf"stopped after step {step}, saved in .*pieces"):
            train(
                case,
                tmp_path / "pieces",
                hook(press_ctrl_c_at(step)),
                seed=0 if step == 1 else None,
            )
    same(whole, train(case, tmp_path / "pieces"))


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_crash_goes_on_from_the_last_checkpoint(error, train, tmp_path, hook):
    whole = train("dataset", tmp_path / "whole", seed=0, checkpoint_every=5)
    folder = tmp_path / "crashed"
    for step, last in ((3, 0), (14, 10)):
        with pytest.raises(error):
            train("dataset", folder, hook(fail_at(step, error)), seed=0, checkpoint_every=5)
        header = checkpoints.read_header(folder)
        assert header is not None
        assert header.position.step == last
        assert Record.load(folder).status == "running"
    same(whole, train("dataset", folder, checkpoint_every=5))


@pytest.mark.parametrize("case", ["generated", "dataset"])
def test_ctrl_c_during_the_final_evaluation(case, train, tmp_path, hook):
    whole = train(case, tmp_path / "whole", seed=0)

    def hear(text):
        if text.startswith("evaluating"):
            os.kill(os.getpid(), signal.SIGINT)

    steps = whole.record.learning[-1].step
    with pytest.raises(Interrupted, match=f"stopped after step {steps}"):
        train(case, tmp_path / "stopped", hook(hear=hear), seed=0)
    assert Record.load(tmp_path / "stopped").evaluation is None
    watcher = hook()
    same(whole, train(case, tmp_path / "stopped", watcher))
    assert watcher.steps == []


def test_ctrl_c_at_the_very_end_still_stops_the_caller(train, tmp_path, monkeypatch):
    original = Record.save

    def save(self, folder):
        path = original(self, folder)
        if self.status == "finished":
            os.kill(os.getpid(), signal.SIGINT)
        return path

    monkeypatch.setattr(Record, "save", save)
    with pytest.raises(Interrupted):
        train("generated", tmp_path)
    assert Record.load(tmp_path).status == "finished"


def test_early_stopping_survives_an_interruption(train, tmp_path, hook):
    changes = {"validation_every": 2, "stop_at": 0.01, "stop_checks": 4, "steps": 100}
    whole = train("generated", tmp_path / "whole", seed=0, **changes)
    assert whole.record.learning[-1].step == 8
    with pytest.raises(Interrupted):
        train("generated", tmp_path / "cut", hook(press_ctrl_c_at(5)), seed=0, **changes)
    same(whole, train("generated", tmp_path / "cut", **changes))


def test_a_finished_run_is_not_run_again(train, tmp_path, hook, monkeypatch):
    first = train("dataset", tmp_path, seed=0)
    monkeypatch.setattr("treering.training.kinds.predict", None)
    watcher = hook()
    second = train("dataset", tmp_path, watcher)
    assert second.record == first.record
    assert watcher.steps == []
    for name, tensor in first.tensors.items():
        assert torch.equal(second.tensors[name], tensor)


def test_created_and_time_are_kept_over_interruptions(train, tmp_path, hook):
    with pytest.raises(Interrupted):
        train("generated", tmp_path, hook(press_ctrl_c_at(5)))
    stopped = Record.load(tmp_path)
    old = "2026-01-31T12:00:00+00:00"
    stopped.created = old
    stopped.save(tmp_path)
    finished = train("generated", tmp_path).record
    assert finished.created == old
    assert finished.cost.wall_seconds > stopped.cost.wall_seconds
    seconds = [point.seconds for point in finished.learning]
    assert seconds == sorted(seconds)
    for part in STEP_PARTS:
        assert finished.cost.where[part] > stopped.cost.where[part]


def test_the_thread_count_that_changed_is_told(train, tmp_path, hook):
    with pytest.raises(Interrupted):
        train("generated", tmp_path, hook(press_ctrl_c_at(5)))
    torch.set_num_threads(2)
    watcher = hook()
    train("generated", tmp_path, watcher)
    assert any("with 2 threads instead of 1" in message for message in watcher.messages)


@pytest.mark.parametrize("end", ["finished", "interrupted", "crashed"])
def test_the_previous_handler_comes_back(end, train, tmp_path, hook):
    act = {
        "finished": lambda step: None,
        "interrupted": press_ctrl_c_at(2),
        "crashed": fail_at(2),
    }[end]

    def mine(number, frame):
        raise AssertionError("not during the run")

    before = signal.signal(signal.SIGINT, mine)
    watcher = hook(act)
    try:
        if end == "finished":
            train("generated", tmp_path, watcher)
        else:
            with pytest.raises((Interrupted, RuntimeError)):
                train("generated", tmp_path, watcher)
        assert signal.getsignal(signal.SIGINT) is mine
        assert watcher.stopped == 1
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_ignored_ctrl_c_stays_ignored(train, tmp_path, hook):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert train("generated", tmp_path, hook(press_ctrl_c_at(2))).record.status == "finished"
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_can_train(train, tmp_path):
    outcomes = []
    thread = threading.Thread(
        target=lambda: outcomes.append(train("generated", tmp_path / "thread", seed=0))
    )
    thread.start()
    thread.join()
    same(outcomes[0], train("generated", tmp_path / "main", seed=0))


SCRIPT = """
import signal, sys, time
from pathlib import Path
import torch
from torch import nn
from treering.records import STEP_PARTS, Record
from treering.tasks.abstract import GeneratedTask
from treering.training import Interrupted, LengthGrid, Settings, fit

folder, pause = Path(sys.argv[1]), float(sys.argv[2])

class Parity(GeneratedTask):
    name, level, symbols, output_size = "parity", "regular", "ab", 2
    def draw(self, batch, length, generator):
        return torch.randint(2, (batch, length), generator=generator)
    def answer(self, inputs):
        return inputs.sum(1, keepdim=True) % 2

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
    def forward(self, inputs, lengths=None, output_length=1):
        print("step", flush=True)
        end = time.monotonic() + pause
        while time.monotonic() < end:
            time.sleep(0.01)
            if pause > 1 and signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
                print("asked to stop", flush=True)
                time.sleep(pause)
        return (inputs.sum(1)[:, None, None] * self.weight)

try:
    fit(
        Model(),
        Parity(),
        Settings(steps=1000, evaluation=LengthGrid(start=2, stop=2)),
        folder=folder,
        seed=0,
        record=Record.load(sys.argv[3]),
    )
except Interrupted as stop:
    print(stop)
    sys.exit(130)
"""


@pytest.fixture
def process(tmp_path, parity, blank):
    path = blank(parity).save(tmp_path / "given")
    started: list[subprocess.Popen[str]] = []

    def start(pause: float) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SCRIPT, str(tmp_path / "run"), str(pause), str(path)]
        running = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        started.append(running)
        assert running.stdout is not None
        assert running.stdout.readline() == "step\n"
        return running

    yield start
    for running in started:
        running.kill()
        running.communicate()


def test_one_ctrl_c_ends_the_process_after_its_step(process, tmp_path):
    running = process(0.05)
    running.send_signal(signal.SIGINT)
    output, _ = running.communicate(timeout=30)
    assert running.returncode == 130
    header = checkpoints.read_header(tmp_path / "run")
    assert header is not None
    step = header.position.step
    assert 1 <= step < 1000
    assert f"stopped after step {step}, saved in {tmp_path / 'run'}" in output


def test_the_second_ctrl_c_kills_at_once(process, tmp_path):
    running = process(60)
    began = time.perf_counter()
    running.send_signal(signal.SIGINT)
    # Two signals in quick succession are one to a process that had no turn between them.
    assert running.stdout.readline() == "asked to stop\n"
    assert running.poll() is None
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=30)
    assert running.returncode == -signal.SIGINT
    assert time.perf_counter() - began < 30
    assert checkpoints.load(tmp_path / "run").header.position.step == 0


def test_restore_gives_the_evaluated_parameters(train, tmp_path, dataset, tagger):
    trained = train("dataset", tmp_path, seed=0)
    header, tensors = checkpoints.load(tmp_path)
    assert header.position.best is not None
    model = tagger(dataset(), seed=99)
    restore(model, tmp_path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, trained.tensors[name])
        assert torch.equal(tensor, tensors[f"best.{name}"])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"steps": 21}, r"settings\.steps is 20 there, 21 here"),
        ({"learning_rate": 0.02}, r"settings\.learning_rate is 0\.01 there, 0\.02 here"),
        ({"curriculum": {"longest": 9}}, r"settings\.curriculum\.longest is 8 there, 9 here"),
        ({"clip": None}, r"settings\.clip is 1\.0 there, null here"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_other_settings_are_refused(train, tmp_path, hook, changes, text, finished):
    if finished:
        train("generated", tmp_path)
    else:
        with pytest.raises(Interrupted):
            train("generated", tmp_path, hook(press_ctrl_c_at(3)))
    with pytest.raises(UserError, match=f"holds another run: {text}; choose another folder"):
        train("generated", tmp_path, **changes)


def test_another_task_seed_model_or_penalty_is_refused(
    tmp_path, parity, reverse, dataset, tagger, small, blank, learned_penalty
):
    def run(task=parity, seed=0, model=None, penalties=(), **layer):
        model = tagger(task) if model is None else model
        record = blank(task)
        record.model = record.model.model_copy(update=layer)
        fit(model, task, small(), folder=tmp_path, seed=seed, record=record, penalties=penalties)

    run()
    with pytest.raises(UserError, match=r'task\.name is "parity" there, "reverse" here'):
        run(task=reverse)
    with pytest.raises(UserError, match="seed is 0 there, 1 here"):
        run(seed=1)
    with pytest.raises(UserError, match=r'model\.layer is "lstm" there, "gru" here'):
        run(layer="gru")
    run(explain="another kernel")
    with pytest.raises(UserError, match=r'penalties is \[\] there, \["LearnedPenalty"\] here'):
        run(penalties=[learned_penalty(nn.Linear(2, 2))])
    wide = tagger(parity)
    wide.head = nn.Linear(6, 3)
    with pytest.raises(
        UserError,
        match=r"another model: model\.head\.weight is float32 \(2, 6\) there, float32 \(3, 6\)",
    ):
        run(model=wide)
    with pytest.raises(UserError, match=r"model\.embedding\.weight is float32 .* float64 .* here"):
        run(model=tagger(parity).double())
    more = tagger(parity)
    more.extra = nn.Linear(1, 1)
    with pytest.raises(UserError, match=r"model\.extra\.weight is absent there, float32 \(1, 1\)"):
        run(model=more)


def test_an_edited_data_set_is_refused(tmp_path, dataset, tagger, small, blank):
    first, edited = dataset(0), dataset(1)
    settings = small(epochs=1)
    fit(tagger(first), first, settings, folder=tmp_path, seed=0, record=blank(first))
    with pytest.raises(UserError, match=r"task\.data is .* there, .* here"):
        fit(tagger(edited), edited, settings, folder=tmp_path, seed=0, record=blank(edited))
