"""The one training loop, for every model and every task.

A run lives in a folder: its record, and a checkpoint from which it goes on. Everything the next
step depends on is in the checkpoint (parameters, moments of the optimiser, states of all random
generators, the place in the epoch, sums for the next point of the curve), so a run that was
stopped anywhere ends with the same bits as one that was not, on the same machine with the same
number of threads. On an accelerator this holds as far as its operations are deterministic.

Dimensions: B rows of a batch, T input positions, M output positions, C classes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import NoReturn

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from treering._errors import UserError
from treering.records import (
    FILE_NAME,
    PARTS,
    STEP_PARTS,
    Cost,
    CurvePoint,
    Evaluation,
    Record,
    Status,
    write_atomically,
)
from treering.tasks.abstract import Task
from treering.training import checkpoint
from treering.training.checkpoint import Best, Position
from treering.training.cost import Stopwatch, peak_memory
from treering.training.evaluate import own_randomness, reads_ranks, to_device
from treering.training.interrupt import CtrlC, Interrupted
from treering.training.kinds import kind_of
from treering.training.optimizer import learning_rate, optimizer_of
from treering.training.progress import Progress, Silent
from treering.training.seeds import fingerprint
from treering.training.settings import Settings, completed
from treering.training.state import TrainingState

Penalty = Callable[[], Tensor] | nn.Module


SURELY_KEPT = 0.99
"""Part of the greatest norm below which rounding cannot make a gradient one that is clipped."""


class DivergenceError(UserError):
    """The loss or its gradient is no longer a number."""


def fit(
    model: nn.Module,
    task: Task,
    settings: Settings,
    *,
    folder: str | Path,
    seed: int,
    record: Record,
    penalties: Sequence[Penalty] = (),
    progress: Progress | None = None,
    device: str | torch.device = "cpu",
    files: Mapping[str, str] = MappingProxyType({}),
) -> Record:
    """Train, or go on training, and evaluate; the model is left with the evaluated parameters.

    loss = cross_entropy(logits, targets) + sum of penalties(); Adam on all of it. The curve's loss
    is the cross entropy alone, so that it compares across penalties.

    On a stream this is truncated backpropagation through time: each update's batch goes on where
    the last one's ended, in the state that it left, and gradients end at the border between them.

    Called again with the same arguments it goes on where the folder's checkpoint stands, with the
    results of a run never interrupted; of a finished run it returns the record. torch's random
    state is the caller's again afterwards.

    Args:
        model: Called as `model(inputs, lengths=lengths, output_length=M) -> logits (B, M, C)`; for
            a stream as `model(inputs, state) -> logits (B, T, C), state`, where state is None at
            the start and then what the model returned last: tensors in tuples. Its initial
            parameters are the caller's business, seeded by the caller. Checkpoints hold parameters
            and persistent buffers; other state of its own is not restored.
        folder: Of this run alone; made if missing.
        seed: Of the data's order and content and of dropout. Not of the evaluation: all runs are
            judged on the same samples.
        record: What is known beforehand (task, model, environment, command). Settings, seed, curve,
            evaluation, cost and status are filled in here, in a copy.
        penalties: Each is called with no arguments in every step and returns a scalar. Those that
            are modules have their parameters trained and kept with the model's.
        progress: Told of every step; None: silence.
        files: What else belongs to the run, such as its vocabulary: texts by file name, written
            into the folder where they are missing.

    Returns:
        The finished record, as it is in the folder.

    Raises:
        UserError: settings that do not fit the task; a folder that cannot be written, or holds
            another run or a damaged one.
        DivergenceError: a loss or gradient that is not finite; the message names the step.
        Interrupted: Ctrl-C; the run is saved.
    """
    where = torch.device(device)
    progress = progress or Silent()
    with CtrlC() as ctrl_c, own_randomness(where):
        run = _Run(
            model, task, settings, Path(folder), seed, record, penalties, where, ctrl_c, files
        )
        finished = run.begin_or_go_on(progress)
        if finished is not None:
            return finished
        progress.start(run.kind.steps)
        try:
            run.train(progress)
            return run.finish(progress)
        finally:
            progress.stop()


class _Run:
    def __init__(
        self,
        model: nn.Module,
        task: Task,
        settings: Settings,
        folder: Path,
        seed: int,
        record: Record,
        penalties: Sequence[Penalty],
        device: torch.device,
        ctrl_c: CtrlC,
        files: Mapping[str, str],
    ) -> None:
        self.began = perf_counter()
        self.model = model.to(device)
        self.task = task
        self.settings = settings = completed(settings, task)
        self.folder = folder
        self.seed = seed
        self.penalties = tuple(penalties)
        self.device = device
        self.ctrl_c = ctrl_c
        self.files = files
        self.kind = kind_of(model, task, settings, seed, device)
        self.modules = {"model": model} | {
            f"penalty.{number}": penalty.to(device)
            for number, penalty in enumerate(self.penalties)
            if isinstance(penalty, nn.Module)
        }
        # A penalty may hold the layer it is about, whose parameters are in already.
        self.parameters = list(
            dict.fromkeys(
                parameter
                for module in self.modules.values()
                for parameter in module.parameters()
                if parameter.requires_grad
            )
        )
        self.optimizer = optimizer_of(self.parameters, settings)
        if settings.warmup_steps >= self.kind.steps:
            raise UserError(
                f"warmup_steps = {settings.warmup_steps}, but training ends after"
                f" {self.kind.steps} updates; write fewer"
            )
        self.state = TrainingState(
            self.modules, self.optimizer, self.kind.source, self.kind.carried, device
        )
        self.position = Position(threads=torch.get_num_threads())
        self.watch = Stopwatch(self.position.seconds, device)
        self.wall_before = 0.0
        self.saved_step: int | None = None
        plain_settings = settings.model_dump(mode="json")
        self.record = record.model_copy(
            update={
                "status": "running",
                "settings": plain_settings,
                "seed": seed,
                "learning": [],
                "evaluation": None,
                "cost": Cost(),
            }
        )
        self.identity: dict[str, JsonValue] = {
            "task": {
                "name": task.name,
                "input_size": task.input_size,
                "output_size": task.output_size,
                "data": fingerprint(task, ranks=reads_ranks(model)),
            },
            "model": record.model.model_dump(mode="json", exclude={"explain"}),
            "settings": plain_settings,
            "seed": seed,
            "penalties": [type(penalty).__name__ for penalty in self.penalties],
            "device": device.type,
        }

    def begin_or_go_on(self, progress: Progress) -> Record | None:
        """Set up the state of the next step; the record, if there is no next step."""
        header = checkpoint.read_header(self.folder)
        has_record = (self.folder / FILE_NAME).exists()
        if header is None:
            if has_record:
                raise UserError(
                    f"{self.folder} holds a run's {FILE_NAME} but its {checkpoint.FILE_NAME} is "
                    f"missing; choose another folder, or {checkpoint.START_OVER}"
                )
            self.state.seed_dropout(self.seed)
            # Before the first step, so that a folder that cannot be written is known at once.
            self._save("running")
            self._write_files()
            return None
        checkpoint.check_identity(header.identity, self.identity, self.folder)
        self._restore(checkpoint.load(self.folder))
        self._write_files()
        if has_record:
            existing = Record.load(self.folder)
            if existing.status == "finished":
                self.state.use_best(self.folder)
                return existing
            self.record.created = existing.created
        self._publish("running")
        progress.message(f"going on from step {self.position.step}")
        threads = torch.get_num_threads()
        if threads != self.position.threads:
            progress.message(
                f"going on from step {self.position.step} with {threads} threads instead of "
                f"{self.position.threads}: the last bits may differ"
            )
            self.position.threads = threads
        return None

    def _write_files(self) -> None:
        for name, text in self.files.items():
            if not (self.folder / name).exists():
                write_atomically(self.folder / name, text.encode())

    def train(self, progress: Progress) -> None:
        for module in self.modules.values():
            module.train()
        position, settings = self.position, self.settings
        while not self._trained:
            if self.ctrl_c.requested:
                self._save("interrupted")
                raise Interrupted(self.folder, position.step)
            loss, score = self._step()
            position.losses += loss
            position.scores += score
            position.summed_steps += 1
            position.step += 1
            validated = None
            if self._validation_due:
                with self.watch.part("evaluation"):
                    validated = self.kind.validate()
                self._judge(validated)
            if validated is not None or self._trained or position.step % settings.log_every == 0:
                self._add_point(validated)
            every = settings.checkpoint_every
            if every is not None and position.step % every == 0:
                self._save("running")
            progress.advance(position.step, loss, score)

    def finish(self, progress: Progress) -> Record:
        """Evaluate the selected parameters; the checkpoint is written before."""
        if self.saved_step != self.position.step:
            self._save("running")
        self.state.use_best(self.folder)
        with self.watch.part("evaluation"):
            self.record.evaluation = self._evaluate(progress)
        self._publish("finished")
        if self.ctrl_c.requested:
            # It came too late for this run, but must still stop whoever would start the next.
            raise Interrupted(self.folder, self.position.step)
        return self.record

    @property
    def _trained(self) -> bool:
        stops_early = self.settings.stop_at is not None
        return self.position.step >= self.kind.steps or (
            stops_early and self.position.good_checks >= self.settings.stop_checks
        )

    @property
    def _validation_due(self) -> bool:
        every, last = self.settings.validation_every, self.position.step >= self.kind.steps
        if every is not None:
            return last or self.position.step % every == 0
        return self.kind.validates_epochs and (last or self.kind.source.at_epoch_end)

    def _step(self) -> tuple[float, float]:
        """One update; cross entropy and score of its batch before the update."""
        number, watch = self.position.step + 1, self.watch
        with watch.part("data"):
            batch = to_device(self.kind.source.next(), self.device)
        with watch.part("forward"):
            loss, score = self.kind.loss(batch)
            total = loss
            for penalty in self.penalties:
                total = total + penalty()
            value = loss.item()
            penalised = total.item() if self.penalties else value
        if not math.isfinite(penalised):
            parts = f"cross entropy {value:g}, with penalties {penalised:g}"
            self._diverged(number, value, f"the loss is not finite ({parts})")
        with watch.part("backward"):
            self.optimizer.zero_grad(set_to_none=True)
            total.backward()
        with watch.part("optimizer"):
            if self.settings.clip is not None:
                self._clip(number, value, self.settings.clip)
            rate = learning_rate(self.settings, self.position.step, self.kind.steps)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
        tokens = batch.inputs.numel() if batch.lengths is None else int(batch.lengths.sum())
        self.position.tokens += tokens
        return value, score

    def _clip(self, step: int, loss: float, most: float) -> None:
        """`nn.utils.clip_grad_norm_`, which writes all gradients even where its factor is 1."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        size = norm.item()
        if not math.isfinite(size):
            self._diverged(step, loss, f"the gradient's norm is {size:g}")
        # 1e-6 as PyTorch adds it.
        if size + 1e-6 >= most * SURELY_KEPT:
            nn.utils.clip_grads_with_norm_(self.parameters, most, norm)

    def _diverged(self, step: int, loss: float, what: str) -> NoReturn:
        seconds = self._wall_seconds()
        point = CurvePoint(step=step, epoch=self.kind.source.epoch, loss=loss, seconds=seconds)
        self.position.learning.append(point)
        self._publish("diverged")
        raise DivergenceError(
            f"{what} at step {step} of {self.kind.steps} (learning rate "
            f"{self.settings.learning_rate:g}, clip {self.settings.clip}); "
            "write a smaller learning rate or a smaller clip"
        )

    def _judge(self, validated: float) -> None:
        """Count good checks in a row, and keep the parameters of the first best one."""
        position, wanted, gain = self.position, self.settings.stop_at, self.kind.metric.gain
        good = wanted is not None and gain(validated, wanted) >= 0
        position.good_checks = position.good_checks + 1 if good else 0
        if self.settings.select == "best validation" and (
            position.best is None or gain(validated, position.best.score) > 0
        ):
            position.best = Best(score=validated, step=position.step, epoch=self.kind.source.epoch)
            self.state.remember_best()

    def _add_point(self, validated: float | None) -> None:
        position, of_loss = self.position, self.kind.metric.of_loss
        loss, score = (
            total / position.summed_steps for total in (position.losses, position.scores)
        )
        position.learning.append(
            CurvePoint(
                step=position.step,
                epoch=self.kind.source.epoch,
                loss=loss,
                # Of the mean loss: a mean of perplexities would be that of no text.
                train_score=of_loss(loss) if of_loss else score,
                validation_score=validated,
                seconds=self._wall_seconds(),
            )
        )
        position.losses = position.scores = 0.0
        position.summed_steps = 0

    def _evaluate(self, progress: Progress) -> Evaluation:
        best, name = self.position.best, self.kind.metric.name
        if best is None:
            selected = "last step"
            checks = [point.validation_score for point in self.position.learning]
            validated = checks[-1] if checks else None
        else:
            when = f"step {best.step}" if best.epoch is None else f"epoch {best.epoch}"
            selected, validated = f"best validation {name} ({when})", best.score

        def listen(text: str) -> None:
            self._stop_if_asked()
            progress.message(text)

        tested = self.kind.test(listen)
        return Evaluation(
            by_length=tested.by_length,
            score=tested.score,
            score_name=tested.name,
            test_score=tested.test_score,
            validation_score=validated,
            selected=selected,
        )

    def _stop_if_asked(self) -> None:
        if self.ctrl_c.requested:
            self._publish("interrupted")
            raise Interrupted(self.folder, self.position.step)

    def _wall_seconds(self) -> float:
        return self.wall_before + perf_counter() - self.began

    def _save(self, status: Status) -> None:
        self.watch.settle()
        self.position.wall_seconds = self._wall_seconds()
        with self.watch.part("checkpoint"):
            checkpoint.save(self.folder, self.state.tensors(), self.identity, self.position)
        self.saved_step = self.position.step
        self._publish(status)

    def _restore(self, saved: checkpoint.Checkpoint) -> None:
        self.state.restore(saved.tensors, self.folder)
        self.position = saved.header.position
        self.watch = Stopwatch(self.position.seconds, self.device)
        self.wall_before = self.position.wall_seconds
        self.saved_step = self.position.step

    def _publish(self, status: Status) -> None:
        """Bring the folder's record up to the present position."""
        position = self.position
        position.peak_memory = max(position.peak_memory, peak_memory(self.device))
        self.watch.settle()
        wall = self._wall_seconds()
        training = sum(position.seconds.get(part, 0.0) for part in STEP_PARTS)
        # Not below 0, for sums are rounded and an accelerator has a clock of its own.
        rest = max(0.0, wall - sum(position.seconds.values()))
        seconds = position.seconds | {"rest": rest}
        self.record.status = status
        self.record.learning = list(position.learning)
        self.record.cost = Cost(
            wall_seconds=wall,
            train_tokens=position.tokens,
            tokens_per_second=position.tokens / training if training else 0.0,
            peak_memory_bytes=position.peak_memory,
            where={part: seconds[part] for part in PARTS if part in seconds},
        )
        self.record.save(self.folder)
