"""From lines of text to answers, by the model of a run or by an exported file.

Legend: B batch, T time, M output length, C classes.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from treering import tasks
from treering._errors import UserError
from treering.cli.models import LoadedRun, load_run, read_vocabulary
from treering.models import Classifier, LanguageModel, PairClassifier, Transducer
from treering.records import TaskInfo
from treering.tasks.abstract import NOT_ASKED

if TYPE_CHECKING:
    from treering.cli.models import AnyVocabulary

PROPERTY = "treering"
"""Where an exported file keeps what its numbers mean."""


@dataclass(frozen=True)
class Answer:
    """What the model says to one line: one line for people, and plain data."""

    line: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Continuation:
    """How a language model goes on: how many tokens, and how they are drawn.

    temperature: 0 takes the likeliest token, 1 draws as the model says.
    """

    tokens: int
    temperature: float
    generator: torch.Generator

    def choose(self, logits: Tensor) -> int:
        """A token from logits (C,); never the unknown one, which has no text."""
        known = logits[1:]
        if not self.temperature:
            return 1 + int(known.argmax())
        chances = torch.softmax(known.double() / self.temperature, dim=-1)
        return 1 + int(torch.multinomial(chances, 1, generator=self.generator))


class Network(Protocol):
    """The numbers behind an answer."""

    def classify(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Logits (B, C) for texts (B, T)."""
        ...

    def transduce(self, symbols: Tensor, outputs: int) -> Tensor:
        """Logits (M, C) for one input (1, T)."""
        ...

    def follow(self, tokens: Tensor) -> Iterator[Tensor]:
        """Logits (T, C) for a text's tokens (T,), then for each further token that is sent."""
        ...


class RunNetwork:
    """The model itself; a language model carries its state from token to token."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def classify(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        return self.model(tokens, lengths).squeeze(1)

    def transduce(self, symbols: Tensor, outputs: int) -> Tensor:
        return self.model(symbols, output_length=outputs)[0]

    def follow(self, tokens: Tensor) -> Any:
        logits, state = self.model(tokens.unsqueeze(0))
        while True:
            token = yield logits[0]
            logits, state = self.model(torch.tensor([[token]]), state)


class FileNetwork:
    """An exported file; a language model reads its text again for every further token."""

    def __init__(self, path: Path, session: Any) -> None:
        self.path = path
        self.session = session

    def _run(self, **inputs: Tensor) -> Tensor:
        arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
        return torch.from_numpy(self.session.run(None, arrays)[0])

    def classify(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        return self._run(inputs=tokens, lengths=lengths).squeeze(1)

    def transduce(self, symbols: Tensor, outputs: int) -> Tensor:
        # Only what answers after its input is told so, by the number of its empty token.
        empty = self.session.get_modelmeta().custom_metadata_map.get("empty")
        asked = symbols if empty is None else F.pad(symbols, (0, outputs), value=int(empty))
        return self._run(inputs=asked)[0, -outputs:]

    def follow(self, tokens: Tensor) -> Any:
        while True:
            token = yield self._run(inputs=tokens.unsqueeze(0))[0]
            tokens = torch.cat((tokens, tokens.new_tensor([token])))


class EveryPosition(nn.Module):
    """A Transducer that is told its empty tokens: symbols (B, T+M) -> logits (B, T+M, C).

    How many outputs there are follows from the task and the input, which a file cannot know.
    """

    def __init__(self, model: Transducer) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        model = self.model
        x = F.one_hot(inputs, model.symbols + 1).to(model.head.weight.dtype)
        return model.head(torch.relu(model.layer(x)[0]))


class Logits(nn.Module):
    """A language model without its state: tokens (B, T) -> logits (B, T, C)."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        return self.model(inputs)[0]


class Pairs(nn.Module):
    """A PairClassifier that refuses no row, which a file cannot do."""

    def __init__(self, model: PairClassifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        return self.model.compare(*self.model.separate(inputs, lengths, check=False))


@dataclass(frozen=True)
class Respondent:
    """A model with what its numbers mean."""

    task: TaskInfo
    vocabulary: "AnyVocabulary | None"
    network: Network

    @torch.no_grad()
    def answers(self, lines: Sequence[str], on: Continuation) -> Iterator[Answer | None]:
        """One answer for each line, in their order; None for a line without words."""
        if self.task.kind == "dataset":
            yield from self._labels(lines)
        elif self.task.kind == "stream":
            yield from (self._continuation(line, on) for line in lines)
        else:
            yield from (self._outputs(line) for line in lines)

    def _labels(self, lines: Sequence[str]) -> Iterator[Answer | None]:
        from treering.tasks.text.dataset import lengthened

        vocabulary: Any = self.vocabulary
        rows = [
            torch.tensor(lengthened(ids[: self.task.max_tokens], self.task.min_tokens))
            for ids in vocabulary.encode(lines)
        ]
        filled = [row for row in rows if len(row)]
        self._check_pairs(lines, rows)
        chances = iter(())
        if filled:
            tokens = nn.utils.rnn.pad_sequence(filled, batch_first=True)
            lengths = torch.tensor([len(row) for row in filled])
            chances = iter(torch.softmax(self.network.classify(tokens, lengths), -1))
        for row in rows:
            if not len(row):
                yield None
                continue
            chance = next(chances)
            best = int(chance.argmax())
            label, probability = self.task.labels[best], float(chance[best])
            named = zip(self.task.labels, chance.tolist(), strict=True)
            yield Answer(
                f"{label}\t{probability:.3f}",
                {"label": label, "probability": probability, "probabilities": dict(named)},
            )

    def _check_pairs(self, lines: Sequence[str], rows: Sequence[Tensor]) -> None:
        """UserError for a line that should have two sentences and has not."""
        vocabulary: Any = self.vocabulary
        if self.task.separator is None:
            return
        [[separator]] = vocabulary.encode([self.task.separator])
        for line, row in zip(lines, rows, strict=True):
            if len(row) and not (row[1:-1] == separator).any():
                raise UserError(
                    f"{line[:60]!r} is no pair of sentences; write them with"
                    f" {self.task.separator!r} between"
                )

    def _continuation(self, line: str, on: Continuation) -> Answer | None:
        vocabulary: Any = self.vocabulary
        tokens = vocabulary.encode(line)
        if not len(tokens):
            return None
        reading: Any = self.network.follow(tokens)
        logits = next(reading)
        read = F.cross_entropy(logits[:-1], tokens[1:]).item() if len(tokens) > 1 else None
        chosen = []
        for _ in range(on.tokens):
            chosen.append(on.choose(logits[-1]))
            logits = reading.send(chosen[-1])
        text = vocabulary.decode(chosen)
        escaped = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
        return Answer(escaped, {"continuation": text, "nats_per_token": read})

    def _outputs(self, line: str) -> Answer | None:
        if not line.strip():
            return None
        task = tasks.get(self.task.name)
        symbols = task.encode(line)
        wanted = task.solve(symbols)
        logits = self.network.transduce(symbols, wanted.shape[1])
        given, asked = logits.argmax(-1), wanted[0] != NOT_ASKED
        apart = "" if task.output_size <= 10 else " "
        outputs = [
            answer if wished else None
            for answer, wished in zip(given.tolist(), asked.tolist(), strict=True)
        ]
        right = bool((given == wanted[0])[asked].all())
        written = apart.join("-" if answer is None else str(answer) for answer in outputs)
        return Answer(
            f"{written}\t{'right' if right else 'wrong'}",
            {"outputs": outputs, "right": right},
        )


def refuse_trees(run: LoadedRun, path: Path, reason: str) -> None:
    """UserError for a model that reads trees, where there can be none."""
    if isinstance(run.model, Classifier) and run.model.reads_ranks:
        raise UserError(
            f"{path}: {run.record.model.layer} merges along the tree that comes with every text,"
            f" and {reason}; use a run of another schedule"
        )


def respondent_of(path: Path) -> Respondent:
    """The model of a run's folder, or of a file that `treering export` wrote."""
    if path.suffix == ".onnx":
        return _of_file(path)
    if not path.exists():
        raise UserError(
            f"{path} does not exist; give the folder of a run (`treering train` prints it), or an"
            " .onnx file that `treering export` wrote"
        )
    loaded = load_run(path)
    refuse_trees(loaded, path, "lines of text have none")
    return Respondent(loaded.record.task, loaded.vocabulary, RunNetwork(loaded.model))


def _of_file(path: Path) -> Respondent:
    from treering.export.onnx import packages, start

    _, runtime = packages()
    if not path.exists():
        raise UserError(f"{path} does not exist; write it with: treering export RUN --out {path}")
    try:
        session = start(runtime, path)
    except Exception as error:
        # onnxruntime's own exceptions have no common class but Exception.
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is not an ONNX file that onnxruntime can run: {reason}") from None
    about = session.get_modelmeta().custom_metadata_map.get(PROPERTY)
    if about is None:
        raise UserError(
            f"{path} does not say what its numbers mean; give a file that `treering export` wrote"
        )
    content = json.loads(about)
    task = TaskInfo.model_validate(content["task"])
    vocabulary = None
    if task.kind != "generated":
        vocabulary = read_vocabulary(content["vocabulary"], task.kind, path)
    return Respondent(task, vocabulary, FileNetwork(path, session))


def properties(run: LoadedRun) -> dict[str, str]:
    """What an exported file has to say of itself so that `respondent_of` can read it."""
    vocabulary = None if run.vocabulary is None else run.vocabulary.to_json()
    content = {"task": run.record.task.model_dump(mode="json"), "vocabulary": vocabulary}
    about = {PROPERTY: json.dumps(content, ensure_ascii=False)}
    if isinstance(run.model, Transducer):
        about["empty"] = str(run.model.symbols)
    return about


def batches(lines: Iterable[str], size: int) -> Iterator[list[str]]:
    """The lines without their ends, `size` at a time."""
    batch: list[str] = []
    for line in lines:
        batch.append(line.removesuffix("\n").removesuffix("\r"))
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
