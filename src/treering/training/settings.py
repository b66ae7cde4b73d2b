"""What a training run is told: how long, how fast, on which lengths, and how it is judged.

Settings go into the run's record as they are, and two runs are averaged only if theirs agree; so
everything here is plain data, frozen, and written as JSON without loss.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    model_validator,
)

from treering._errors import UserError
from treering.records import ACCURACY
from treering.tasks.abstract import DatasetTask, StreamTask, Task

Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Selection = Literal["last", "best validation"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise UserError(f"{type(self).__name__}: {_in_one_line(error)}") from None


def _in_one_line(error: ValidationError) -> str:
    problems = []
    for problem in error.errors(include_url=False):
        where = ".".join(str(part) for part in problem["loc"])
        # pydantic puts this before the text of a ValueError, of ours too.
        text = problem["msg"].removeprefix("Value error, ")
        problems.append(f"{where} = {problem['input']!r}: {text}" if where else text)
    return "; ".join(problems)


class Curriculum(_Part):
    """Which sequence lengths a generated task is trained on: one length a step.

    `uniform` draws every length from shortest to longest, both included, with equal probability;
    this is the benchmark's protocol. `growing` draws from shortest to a limit that rises in equal
    steps from `shortest` to `longest` during the first `grow_for` of the training steps.
    """

    shortest: PositiveInt = 1
    longest: PositiveInt = 40
    kind: Literal["uniform", "growing"] = "uniform"
    grow_for: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5

    def __init__(self, shortest: int = 1, longest: int = 40, **options: Any) -> None:
        super().__init__(shortest=shortest, longest=longest, **options)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.longest < self.shortest:
            raise ValueError(
                f"longest = {self.longest} is less than shortest = {self.shortest}; exchange them"
            )
        return self

    def limit(self, step: int, steps: int) -> int:
        """The longest length that step number `step` (from 0) of `steps` may draw."""
        if self.kind == "uniform":
            return self.longest
        lengths = self.longest - self.shortest + 1
        grown = int(lengths * step / (self.grow_for * steps))
        return min(self.longest, self.shortest + grown)

    def points(self, count: int) -> tuple[int, ...]:
        """At most `count` lengths spread evenly over the range; with two or more, both its ends."""
        if count < 2:
            return (self.longest,) * count
        span = self.longest - self.shortest
        return tuple(sorted({self.shortest + round(k * span / (count - 1)) for k in range(count)}))


class LengthGrid(_Part):
    """The lengths on which a model trained on a generated task is judged.

    The score is the mean accuracy over start, start + step, ... up to stop. `training_points`
    further lengths from the range of training are evaluated as well, so that a plot shows both
    sides of the border; they never count. Every length has `samples` sequences, in batches of
    `batch`.

    The benchmark's score is step 1 (460 lengths). A coarser grid is cheaper; an odd step visits odd
    and even lengths alike, an even step only one of the two, and some tasks tell them apart.
    """

    start: PositiveInt = 41
    stop: PositiveInt = 500
    step: PositiveInt = 1
    samples: PositiveInt = 512
    batch: PositiveInt = 64
    training_points: Annotated[int, Field(ge=0)] = 8

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.stop < self.start:
            raise ValueError(f"stop = {self.stop} is less than start = {self.start}; exchange them")
        return self

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths that count."""
        return tuple(range(self.start, self.stop + 1, self.step))

    def describe(self) -> str:
        """The score's name: `mean accuracy over lengths 41..500 step 20, 512 samples each`."""
        if self.start == self.stop:
            return f"accuracy at length {self.start}, {self.samples} samples"
        step = f" step {self.step}" if self.step > 1 else ""
        return (
            f"mean accuracy over lengths {self.start}..{self.stop}{step}, "
            f"{self.samples} samples each"
        )


class Settings(_Part):
    """How to train one model once.

    Raises:
        UserError: a value out of its range, or values that contradict each other; one line names
            every one of them.
    """

    steps: PositiveInt | None = None
    """Updates of the parameters. Give this or `epochs`."""
    epochs: PositiveInt | None = None
    """Passes over a data set or a stream. A generated task is endless and has none."""
    batch_size: PositiveInt = 128
    """Sequences in one update; of a stream, how many parallel streams it is cut into."""
    bucket: PositiveInt | None = None
    """For data sets only: so many batches are drawn together, sorted by length, cut again, and
    come in random order. Rows of a batch are then about equally long, and few positions are
    padding; but they are no longer independent draws. None: rows in random order."""
    truncate: PositiveInt = 64
    """For streams only: tokens of each stream in one update. The state is carried on to the next
    one, gradients are not."""
    learning_rate: Positive = 1e-3
    optimizer: Literal["adam"] = "adam"
    """Adam with PyTorch's betas (0.9, 0.999) and epsilon 1e-8."""
    weight_decay: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0
    """Every trained parameter shrinks by this times the learning rate at each update, apart from
    Adam's step (AdamW). 0: plain Adam."""
    learning_rate_schedule: Literal["constant", "cosine"] = "constant"
    """`cosine`: the learning rate falls along half a cosine to 0 at the last step. It needs to know
    the last step: a run that `stop_at` ends earlier ends in mid-fall."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps at the start during which the learning rate rises in equal parts to its full value."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the matrix products of training. `bfloat16`: its forward passes run under torch.autocast,
    and its gradients follow them; parameters, moments, states and the loss are in float32, and so
    are validation and test. Worth it where a kernel takes it, as PR-LSTM's do; what has none, an
    LSTM on the CPU for one, becomes slower."""
    clip: Positive | None = 1.0
    """Greatest norm of the gradient of all trained parameters together; None: as it comes."""
    curriculum: Curriculum = Curriculum()
    """For generated tasks only."""
    evaluation: LengthGrid = LengthGrid()
    """For generated tasks only."""
    validation_every: PositiveInt | None = None
    """Steps between validations. None: at every epoch's end for a data set or a stream, never for
    a generated task. The last step is validated as well, unless the answer is never."""
    log_every: PositiveInt = 100
    """Steps between points of the learning curve; a validation is always a point."""
    checkpoint_every: PositiveInt | None = 1000
    """Steps between checkpoints; None: only at the start, at the end and on Ctrl-C."""
    select: Selection | None = None
    """Which parameters are evaluated and kept. None: `best validation` for a data set or a stream,
    `last` for a generated task."""
    stop_at: Positive | None = None
    """Stop as soon as `stop_checks` validations in a row were at least this good: an accuracy, or
    whatever else the task's score is."""
    stop_checks: PositiveInt = 3

    @model_validator(mode="after")
    def _one_duration(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            given = "neither" if self.steps is None else f"both ({self.steps} and {self.epochs})"
            raise ValueError(f"give steps or epochs, got {given}; write steps=... or epochs=...")
        return self


def completed(settings: Settings, task: Task) -> Settings:
    """The settings with what depends on the kind of task filled in.

    Raises:
        UserError: something does not fit the task, such as epochs of an endless one.
    """
    if task.metric == ACCURACY.name and settings.stop_at is not None and settings.stop_at > 1:
        raise UserError(
            f"stop_at = {settings.stop_at:g} is above 1, and {task.name} is judged by accuracy;"
            " write at most 1"
        )
    if settings.bucket is not None and not isinstance(task, DatasetTask):
        raise UserError(
            f"bucket = {settings.bucket} sorts rows of a data set, and {task.name} is none; leave"
            " it out"
        )
    if isinstance(task, DatasetTask | StreamTask):
        return settings.model_copy(update={"select": settings.select or "best validation"})
    if settings.epochs is not None:
        raise UserError(
            f"epochs = {settings.epochs}, but {task.name} is generated without end and has no "
            "epochs; write steps=..."
        )
    if settings.validation_every is None:
        for name, value in (
            ("select", settings.select if settings.select == "best validation" else None),
            ("stop_at", settings.stop_at),
        ):
            if value is not None:
                raise UserError(
                    f"{name} = {value!r} needs validations, and {task.name} has none unless asked "
                    "for; write validation_every=..."
                )
    return settings.model_copy(update={"select": settings.select or "last"})
