"""Labelled texts to a task: splits, vocabulary, token ids.

Dimensions: N rows of a split, T tokens of the longest row.
"""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from treering._errors import UserError
from treering.tasks.abstract import DatasetTask, Sizes, Split
from treering.tasks.text.files import Rows
from treering.tasks.text.vocabulary import PADDING, Cut, Vocabulary


@dataclass(frozen=True, eq=False, kw_only=True)
class TextTask(DatasetTask):
    """A `DatasetTask` of texts, with what it takes to read further texts the same way."""

    vocabulary: Vocabulary
    max_tokens: int | None
    min_tokens: int | None
    """shorter texts are lengthened to this, see `encode`"""
    left_out: int
    """training rows dropped because their text is also in the given test file"""
    separator: str | None = None
    """the word that stands between the two sentences of a text; None: a text is one"""

    @property
    def separator_id(self) -> int | None:
        """The token that the separator is."""
        return None if self.separator is None else self.vocabulary.encode([self.separator])[0][0]

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Tokens (N, T) and lengths (N,) of new texts; UserError for one without words."""
        return encode(self.vocabulary, texts, self.max_tokens, self.min_tokens)


def make_task(
    name: str,
    train: Rows,
    validation: Rows,
    test: Rows,
    *,
    max_tokens: int | None,
    max_words: int | None,
    min_tokens: int | None = None,
    left_out: int = 0,
    cut: Cut = "words",
    labels: Sequence[str] | None = None,
    separator: str | None = None,
    sizes: Sizes | None = None,
) -> TextTask:
    """The task of three parts; vocabulary and classes come from `train` alone.

    labels: the classes in an order of their own; None: sorted.

    UserError if another part has a class that `train` lacks.
    """
    labels = tuple(sorted(set(train.labels)) if labels is None else labels)
    vocabulary = Vocabulary.of_texts(train.texts, max_words=max_words, cut=cut)
    number = {label: index for index, label in enumerate(labels)}

    def split(rows: Rows) -> Split:
        for label, line in zip(rows.labels, rows.lines, strict=True):
            if label not in number:
                raise UserError(
                    f"{rows.path}, line {line}: the label {label!r} does not occur in the "
                    f"training rows (labels there: {', '.join(labels)})"
                )
        tokens, lengths = encode(vocabulary, rows.texts, max_tokens, min_tokens)
        classes = torch.tensor([number[label] for label in rows.labels])
        return Split(tokens, lengths, classes, _ranks(rows.depths, tokens, lengths))

    return TextTask(
        name=name,
        input_size=len(vocabulary),
        labels=labels,
        train=split(train),
        validation=split(validation),
        test=split(test),
        padding=PADDING,
        vocabulary=vocabulary,
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        left_out=left_out,
        separator=separator,
        sizes=sizes,
    )


def _ranks(depths: list[list[int]] | None, tokens: Tensor, lengths: Tensor) -> Tensor | None:
    """Trees of rows as a Split has them; a word is a token, and no text is cut or lengthened."""
    if depths is None:
        return None
    assert [len(row) + 1 for row in depths] == lengths.tolist()
    ranks = np.zeros(tokens.shape, dtype=np.int32)
    for place, row in zip(ranks, depths, strict=True):
        place[: len(row)] = np.negative(row)
    return torch.from_numpy(ranks)


def encode(
    vocabulary: Vocabulary,
    texts: Sequence[str],
    max_tokens: int | None,
    min_tokens: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Tokens (N, T) of the first `max_tokens` words of each text (None: all), and lengths (N,).

    A text of fewer than `min_tokens` words is repeated, its last copy cut, until it has so many:
    it says nothing new, but what it says lies further apart. UserError for a text without words.
    """
    if max_tokens is not None and max_tokens < 1:
        raise UserError(f"max_tokens is {max_tokens}; write a number of at least 1")
    if min_tokens is not None and (
        min_tokens < 1 or (max_tokens is not None and min_tokens > max_tokens)
    ):
        raise UserError(
            f"min_tokens is {min_tokens}; write a number from 1 to max_tokens, {max_tokens}"
        )
    if not texts:
        raise UserError("no texts; give at least one")
    rows = [lengthened(ids[:max_tokens], min_tokens) for ids in vocabulary.encode(texts)]
    lengths = torch.tensor([len(row) for row in rows])
    if not lengths.all():
        index = int((lengths == 0).nonzero()[0])
        raise UserError(f"text {index} ({texts[index][:40]!r}) has no words; leave it out")
    tokens = np.full((len(rows), int(lengths.max())), PADDING, dtype=np.int64)
    for place, row in zip(tokens, rows, strict=True):
        place[: len(row)] = row
    return torch.from_numpy(tokens), lengths


def lengthened(ids: list[int], min_tokens: int | None) -> list[int]:
    """The ids again and again up to `min_tokens` of them, if there are any; None: as they are."""
    if min_tokens is None or not 0 < len(ids) < min_tokens:
        return ids
    return (ids * -(-min_tokens // len(ids)))[:min_tokens]


def hold_out(rows: Rows, shares: Sequence[float], seed: int) -> list[Rows]:
    """Split rows into the rest and one part per share: [rest, part of shares[0], ...].

    Stratified: each label gives its share, rounded, to each part, and from three distinct
    texts on at least one text to each of two parts. Rows of equal text (case and blanks
    aside) stay together; such a group counts under the label of its first row and goes to
    the rest where it is larger than what a part still needs. Row order is kept within a
    part, and the seed alone decides who goes where. UserError if all rows have one label or
    a part stays empty.
    """
    if len(set(rows.labels)) < 2:
        raise UserError(
            f"{rows.path}: every row has the label {rows.labels[0]!r}; a classifier needs two "
            "or more"
        )
    groups: dict[str, list[int]] = defaultdict(list)
    for index, text in enumerate(rows.texts):
        groups[same_text_key(text)].append(index)
    by_label: dict[str, list[list[int]]] = defaultdict(list)
    for group in groups.values():
        by_label[rows.labels[group[0]]].append(group)

    shuffle = random.Random(seed)
    parts: list[list[int]] = [[] for _ in range(len(shares) + 1)]
    for label in sorted(by_label):
        remaining = by_label[label]
        shuffle.shuffle(remaining)
        size = sum(map(len, remaining))
        for part, share in enumerate(shares, start=1):
            taken, remaining = _fill(remaining, round(size * share), len(shares) - part + 1)
            parts[part].extend(index for group in taken for index in group)
        parts[0].extend(index for group in remaining for index in group)
    if not all(parts):
        raise UserError(
            f"{rows.path}: {len(rows.texts)} rows with {len(groups)} different texts are too "
            f"few to split into {len(parts)} parts; give at least {len(parts)} different texts "
            "of some label"
        )
    return [select(rows, sorted(part)) for part in parts]


def select(rows: Rows, indices: Sequence[int]) -> Rows:
    """The rows of these indices, in this order."""
    return Rows(
        rows.path,
        [rows.texts[index] for index in indices],
        [rows.labels[index] for index in indices],
        [rows.lines[index] for index in indices],
        None if rows.depths is None else [rows.depths[index] for index in indices],
    )


def same_text_key(text: str) -> str:
    """Equal for texts that differ in case and blanks only."""
    return " ".join(text.lower().split())


def _fill(
    groups: list[list[int]], target: int, keep: int
) -> tuple[list[list[int]], list[list[int]]]:
    """The groups that fit, in order, into `target` rows, and the others, at least `keep`.

    If none fits, the smallest is taken, provided that `keep` others remain.
    """
    taken: list[list[int]] = []
    others: list[list[int]] = []
    room = target
    for group in groups:
        if len(group) <= room and len(groups) - len(taken) > keep:
            taken.append(group)
            room -= len(group)
        else:
            others.append(group)
    if not taken and len(others) > keep:
        taken.append(others.pop(others.index(min(others, key=len))))
    return taken, others
