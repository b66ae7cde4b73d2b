"""Models from specifications, for a run that begins and for one that lies in a folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from treering import tasks
from treering._errors import UserError
from treering.cli.specs import LayerSpec
from treering.models import Classifier, LanguageModel, PairClassifier, Transducer
from treering.models.classifier import Pooling
from treering.records import Record
from treering.training import restore

if TYPE_CHECKING:
    from treering.tasks.text import StreamVocabulary, Vocabulary

Model = Classifier | LanguageModel | Transducer
VOCABULARY = "vocabulary.json"
"""In a run's folder: which word or character each token id is."""


@dataclass(frozen=True)
class LoadedRun:
    """A run as its folder has it: all it takes to use the model on new inputs.

    model: with the parameters the run has chosen, in evaluation mode.
    vocabulary: of a text task; None for a generated one, whose symbols its name tells.

    Names of classes, in the order of the model's outputs, are `record.task.labels`; longer texts
    are cut to `record.task.max_tokens` words.
    """

    record: Record
    model: Model
    vocabulary: "Vocabulary | StreamVocabulary | None"


def build_model(
    spec: LayerSpec,
    kind: Literal["generated", "dataset", "stream"],
    symbols: int,
    classes: int,
    hidden_size: int,
    embedding_size: int | None,
    pooling: Pooling = "last",
    dropout: float = 0.0,
    separator: int | None = None,
) -> tuple[Model, list[Callable[[], Tensor]]]:
    """The model for a task of a kind, and its penalties; parameters from torch's generator.

    separator: the token between the two sentences of each text; None: a text is one.

    UserError, with the specification, if the layer cannot be built or does not fit the task.
    """
    width = symbols + 1 if kind == "generated" else embedding_size
    assert width is not None
    layer, penalties = spec.build(width, hidden_size)
    if kind == "generated":
        return Transducer(layer, symbols, classes), penalties
    if kind == "dataset" and separator is not None:
        model = PairClassifier(layer, symbols, width, classes, separator, pooling, dropout)
        return model, penalties
    if kind == "dataset":
        return Classifier(layer, symbols, width, classes, pooling, dropout), penalties
    try:
        return LanguageModel(layer, symbols, width), penalties
    except UserError as error:
        raise UserError(f"{error} (in {spec.text!r})") from None


def load_run(folder: Path) -> LoadedRun:
    """The model of a run and how its inputs are read, from the run's folder alone.

    From the record the layer, the sizes, the task; from the checkpoint the parameters; from
    `vocabulary.json` the tokens. Also of an unfinished run, with the parameters so far.

    Raises:
        UserError: a part is missing or damaged, or they do not fit each other.
    """
    record = Record.load(folder)
    vocabulary = separator = None
    if record.task.kind == "generated":
        symbols = tasks.get(record.task.name).input_size
    else:
        vocabulary = read_vocabulary(_text(path := folder / VOCABULARY), record.task.kind, path)
        symbols = len(vocabulary)
        if record.task.separator is not None:
            words: Any = vocabulary
            [[separator]] = words.encode([record.task.separator])
    model, _ = build_model(
        LayerSpec.parse(record.model.layer),
        record.task.kind,
        symbols,
        record.task.classes,
        record.model.hidden_size,
        record.model.embedding_size,
        record.model.pooling,
        record.model.dropout,
        separator,
    )
    restore(model, folder)
    return LoadedRun(record, model.eval(), vocabulary)


def read_vocabulary(
    content: str | None, kind: str, source: str | Path
) -> "Vocabulary | StreamVocabulary":
    """The vocabulary of a kind of task from its JSON text; `source` is named in a UserError."""
    from treering.tasks.text import StreamVocabulary, Vocabulary

    reader = StreamVocabulary if kind == "stream" else Vocabulary
    return reader.from_json(content or "", str(source))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}; run the record's command again to write it"
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is damaged: not UTF-8; run the record's command again") from None
