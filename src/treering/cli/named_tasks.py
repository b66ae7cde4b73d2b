"""The task that a word on the command line names, and what options mean something for it."""

import stat
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from treering import tasks
from treering._errors import UserError, nearest
from treering.cli import presets
from treering.cli.options import ModelOptions, TaskOptions, TrainingOptions
from treering.tasks import GeneratedTask

if TYPE_CHECKING:
    # They pull in tokenizers, for which generated tasks should not wait.
    from treering.tasks.listops import ListOpsTask
    from treering.tasks.text import TextStreamTask, TextTask

    NamedTask = GeneratedTask | ListOpsTask | TextTask | TextStreamTask

DATASETS = {
    "r8": presets.R8,
    "fine-foods": presets.FINE_FOODS,
    "fine-foods-binary": presets.FINE_FOODS,
    "imdb": presets.IMDB,
}
EXPRESSIONS = ("listops",)
WHOLE = {
    "sst": presets.SST,
    "sst-binary": presets.SST,
    "logical-inference": presets.LOGICAL_INFERENCE,
}
"""Of these no text is cut or lengthened."""
STREAMS = ("tinyshakespeare", "wikitext2")
FILES = "the path of a CSV, TSV, JSONL or .txt file"

_LENGTHS = ("train_length", "curriculum", "test_length", "test_every", "test_samples")


@dataclass(frozen=True)
class TaskKind:
    """How tasks of a kind are called, and which options mean nothing for them."""

    name: str
    no_task_options: Sequence[str] = ()
    no_model_options: Sequence[str] = ()
    no_training_options: Sequence[str] = ()


GENERATED = TaskKind(
    "a generated task",
    ("text", "label", "test", "unit", "max_tokens", "min_tokens", "max_words"),
    ("embedding_size", "pooling", "dropout"),
    ("epochs", "bucket", "truncate"),
)
CLASSIFICATION = TaskKind("a data set", ("unit",), (), ("truncate", *_LENGTHS))
NESTED = TaskKind(
    "a task of expressions",
    ("text", "label", "test", "unit", "min_tokens", "max_words"),
    (),
    ("truncate", *_LENGTHS),
)
SENTENCES = TaskKind(
    "a data set of whole sentences",
    ("text", "label", "test", "unit", "max_tokens", "min_tokens", "max_words"),
    (),
    ("truncate", *_LENGTHS),
)
STREAM = TaskKind(
    "a continuous text",
    ("text", "label", "max_tokens", "min_tokens"),
    ("pooling", "dropout"),
    ("bucket", *_LENGTHS),
)


def kind_of(word: str) -> tuple[TaskKind, dict[str, Any]]:
    """The kind of the task that a word names, and its preset; UserError if it names none."""
    if word in tasks.all_names():
        return GENERATED, presets.GENERATED
    if word in DATASETS:
        return CLASSIFICATION, DATASETS[word]
    if word in EXPRESSIONS:
        return NESTED, presets.LISTOPS
    if word in WHOLE:
        return SENTENCES, WHOLE[word]
    if word in STREAMS:
        return STREAM, presets.WIKITEXT2 if word == "wikitext2" else presets.TEXT
    _check_file(word)
    if word.lower().removesuffix(".gz").endswith(".txt"):
        return STREAM, presets.TEXT
    return CLASSIFICATION, presets.FILE


def check_options(
    word: str, kind: TaskKind, given: tuple[TaskOptions, ModelOptions, TrainingOptions]
) -> None:
    """UserError for an option that means nothing for the task."""
    meaningless = (kind.no_task_options, kind.no_model_options, kind.no_training_options)
    for options, names in zip(given, meaningless, strict=True):
        for name in names:
            if getattr(options, name) is not None:
                flag = name.replace("_", "-")
                raise UserError(f"--{flag} means nothing for {word}, {kind.name}; leave it out")
    if given[2].steps is not None and given[2].epochs is not None:
        raise UserError("give --steps or --epochs, not both")


def load(word: str, kind: TaskKind, options: TaskOptions) -> "NamedTask":
    """The task itself, from options completed by its preset."""
    if kind is GENERATED:
        return tasks.get(word)
    if kind is NESTED:
        from treering.tasks.listops import load_listops

        return load_listops(max_tokens=options.max_tokens)
    from treering.tasks import text

    if kind is STREAM:
        if word in STREAMS:
            if options.unit or options.test or options.max_words:
                raise UserError(f"--unit, --test and --max-words are for files; {word} has its own")
            return text.load_wikitext2() if word == "wikitext2" else text.load_tinyshakespeare()
        unit = options.unit or "character"
        if unit == "character" and options.max_words is not None:
            raise UserError("--max-words counts words; write --unit word with it")
        return text.load_text(word, unit, max_words=options.max_words, test_path=options.test)
    if kind is SENTENCES:
        if word == "logical-inference":
            return text.load_logical_inference()
        return text.load_sst(binary=word == "sst-binary")
    # The presets have a max_tokens for every kind of text.
    limits = {
        "max_tokens": options.max_tokens or 0,
        "max_words": options.max_words,
        "min_tokens": options.min_tokens,
    }
    loaders = {
        "r8": text.load_r8,
        "fine-foods": text.load_fine_foods,
        "fine-foods-binary": partial(text.load_fine_foods, binary=True),
        "imdb": text.load_imdb,
    }
    if word in loaders:
        if options.text or options.label or options.test:
            raise UserError(f"--text, --label and --test are for files; {word} has its own")
        return loaders[word](**limits)
    if options.text is None or options.label is None:
        raise UserError(
            f"{word} is a file: say which columns hold text and label, with --text COLUMN and"
            " --label COLUMN; or, for a language model of its text, name it .txt"
        )
    return text.load_file(word, options.text, options.label, test_path=options.test, **limits)


def _check_file(word: str) -> None:
    """UserError unless the word is a file that exists."""
    path = Path(word)
    try:
        folder = stat.S_ISDIR(path.stat().st_mode)
    except OSError as error:
        if path.suffix or len(path.parts) > 1:
            raise UserError(f"cannot read {word}: {error.strerror}; give {FILES}") from None
        known = [*tasks.all_names(), *DATASETS, *WHOLE, *EXPRESSIONS, *STREAMS]
        raise UserError(f"{nearest(word, known, 'task')}; or {FILES}") from None
    if folder:
        raise UserError(f"{word!r} is a folder; give {FILES}, or a task of `treering list`")
