"""ListOps as a task: expressions that are drawn to train on, the published ones to test on.

Dimensions: N rows of a split, T tokens of the longest row.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from treering._errors import UserError
from treering.tasks.abstract import DatasetTask, Split
from treering.tasks.listops.draw import draw
from treering.tasks.listops.language import evaluate, tokens_of
from treering.tasks.listops.trees import ranks_of
from treering.tasks.listops.vocabulary import PADDING, ListOpsVocabulary
from treering.tasks.text import locate
from treering.tasks.text.files import read_text

FOLDER = "listops"
TEST_FILE = "test_d20s.tsv"
ADDRESS = (
    "https://raw.githubusercontent.com/nyu-mll/spinn/"
    "0e24a35c7be00e9f67814b0c846c3095cfe7632b/python/spinn/data/listops/"
)
SHA256 = "71335416e6896e8dd8dc69281c8ed9b37316382d05d3705d660461564e843840"
EXPRESSIONS = 90_000
"""Of the published training set, which this stands for."""

Row = tuple[bytes, int]
"""The ids of an expression, one byte each, and its value."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ListOpsTask(DatasetTask):
    """A `DatasetTask` of expressions: the class is the digit that one is worth.

    longest: tokens of the longest expression to train on or to validate with; None: any.
    left_out: how many of those drawn are longer.
    max_tokens, min_tokens: None; a part of an expression has no value, so that none is cut, and
        none is lengthened.
    separator, separator_id: None; an expression is no pair.
    """

    vocabulary: ListOpsVocabulary
    longest: int | None
    left_out: int
    max_tokens: None = field(default=None, init=False)
    min_tokens: None = field(default=None, init=False)
    separator: None = field(default=None, init=False)
    separator_id: None = field(default=None, init=False)


def load_listops(
    *, max_tokens: int | None = 128, seed: int = 0, expressions: int | None = None
) -> ListOpsTask:
    """Random expressions to train on, and the test set `test_d20s` of Nangia and Bowman.

    90,000 different expressions (or as many as `expressions` says), none of which is in the test
    set, are drawn by `seed` as the paper states it (`draw`), in about two seconds. A tenth of them
    is for validation. Of both parts, those with more than `max_tokens` tokens are left out (None:
    none): they are one in twelve at 128, make every batch that they are in several times as long,
    and with them the training split takes most of a gigabyte. The test set is always whole: 10,000
    expressions of up to 939 tokens, 43 on average.

    Rows have the binary trees that the published file spells in round brackets (`trees`).

    Our reading: roots are operators (in the published test set one of 10,000 is a digit); what is
    drawn stands for the published training set, which is other expressions of this distribution.

    Looks for the test set in $TREERING_DATA/listops, then in the user's cache folder
    (test_d20s.tsv, plain or .gz), then downloads 3 MB. UserError if that fails, if a line of it is
    not `digit<TAB>expression`, or if its digit is not the expression's value.
    """
    if max_tokens is not None and max_tokens < 4:
        raise UserError(
            f"max_tokens is {max_tokens}, but an expression with an operator has at least 4 tokens;"
            " write 4 or more"
        )
    count = EXPRESSIONS if expressions is None else expressions
    if count < 10:
        raise UserError(f"expressions is {count}; a tenth is held out, so write at least 10")
    test = _published()
    generator = torch.Generator().manual_seed(seed)
    drawn = _distinct(count, generator, {ids for ids, _ in test})
    # The shortest are drawn first, since they come again and again.
    order = torch.randperm(count, generator=generator).tolist()
    held_out = count // 10
    parts = [drawn[index] for index in order[held_out:]], [drawn[i] for i in order[:held_out]]
    train, validation = (
        [row for row in part if max_tokens is None or len(row[0]) <= max_tokens] for part in parts
    )
    if not train or not validation:
        raise UserError(
            f"of {count} expressions too few have at most {max_tokens} tokens; write a larger"
            " max_tokens, or more expressions"
        )
    return ListOpsTask(
        name="listops",
        input_size=len(ListOpsVocabulary()),
        labels=tuple("0123456789"),
        train=_split(train),
        validation=_split(validation),
        test=_split(test),
        padding=PADDING,
        vocabulary=ListOpsVocabulary(),
        longest=max_tokens,
        left_out=count - len(train) - len(validation),
    )


def _published() -> list[Row]:
    path = locate.obtain(FOLDER, TEST_FILE, ADDRESS + TEST_FILE, SHA256)
    rows: list[Row] = []
    for line, content in enumerate(read_text(path).split("\n"), start=1):
        if not content.strip():
            continue
        where = f"{path}, line {line}"
        target, tab, text = content.partition("\t")
        if not tab or target not in tuple("0123456789"):
            raise UserError(f"{where}: ListOps has digit<TAB>expression on each line")
        tokens = tokens_of(text)
        try:
            value = evaluate(tokens)
        except ValueError as error:
            raise UserError(f"{where}: no expression of ListOps: {error}") from None
        if value != int(target):
            raise UserError(f"{where}: the expression is worth {value}, not {target}; fix the line")
        rows.append((bytes(ListOpsVocabulary.ids[token] for token in tokens), value))
    return rows


def _distinct(count: int, generator: torch.Generator, excluded: set[bytes]) -> list[Row]:
    """The first `count` different expressions drawn that are not excluded."""
    found: dict[bytes, int] = {}
    while len(found) < count:
        tokens, lengths, values = draw(max(count - len(found), 1000), generator)
        content = tokens.numpy().tobytes()
        end = 0
        for length, value in zip(lengths.tolist(), values.tolist(), strict=True):
            ids = content[end : end + length]
            end += length
            if ids not in excluded and len(found) < count:
                found[ids] = value
    return list(found.items())


def _split(rows: Sequence[Row]) -> Split:
    lengths = torch.tensor([len(ids) for ids, _ in rows])
    tokens: Tensor = torch.full((len(rows), int(lengths.max())), PADDING)
    content = torch.frombuffer(bytearray(b"".join(ids for ids, _ in rows)), dtype=torch.uint8)
    tokens[torch.arange(tokens.shape[1]) < lengths[:, None]] = content.long()
    values = torch.tensor([value for _, value in rows])
    return Split(tokens, lengths, values, ranks_of(tokens, lengths))
