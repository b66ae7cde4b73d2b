"""SST: sentences of film reviews, from very negative to very positive, with their parse.

Socher et al., "Recursive Deep Models for Semantic Compositionality Over a Sentiment Treebank"
(EMNLP 2013); texts by Pang and Lee (2005). One binary tree a line, each node with a label 0 to 4:
`(3 (2 Good) (2 fun))`. The label of the whole sentence is what is learnt here.
"""

import re
import zipfile
from pathlib import Path

from treering._errors import UserError
from treering.tasks.text import locate
from treering.tasks.text.dataset import TextTask, make_task, select
from treering.tasks.text.files import Rows, read_text

FOLDER = "sst_trees"
ARCHIVE = "trainDevTestTrees_PTB.zip"
ADDRESS = f"https://nlp.stanford.edu/sentiment/{ARCHIVE}"
SHA256 = "5c613a4f673fc74097d523a2c83f38e0cc462984d847b82c7aaf36b01cbbbfcc"
PARTS = ("train", "dev", "test")
LABELS = ("very negative", "negative", "neutral", "positive", "very positive")

# A node opens with its label; a leaf closes behind its word.
_NODE = re.compile(r"\(([0-4]) ")


def load_sst(*, binary: bool = False) -> TextTask:
    """Whole sentences in the published splits: 8,544, 1,101 and 2,210, five classes.

    binary: without the neutral ones and in two classes, 6,920, 872 and 1,821. Words are the
    treebank's own, in lower case, all of those that occur in training. Rows have their parse.

    Looks for train.txt, dev.txt and test.txt, plain or .gz, in $TREERING_DATA/sst_trees, then in
    the user's cache folder; then for the published archive there; then downloads it, 0.8 MB.
    UserError if that fails or a line is no tree.
    """
    parts = [_binary(rows) if binary else rows for rows in _read()]
    return make_task(
        "sst-binary" if binary else "sst",
        *parts,
        max_tokens=None,
        max_words=None,
        cut="blanks",
        labels=("negative", "positive") if binary else LABELS,
    )


def _read() -> list[Rows]:
    found = [locate.find(FOLDER, f"{part}.txt") for part in PARTS]
    if all(found):
        return [read_trees(path, read_text(path)) for path in found if path is not None]
    path = locate.obtain(FOLDER, ARCHIVE, ADDRESS, SHA256)
    locate.check(path, ADDRESS, SHA256)
    try:
        with zipfile.ZipFile(path) as archive:
            return [read_trees(path, archive.read(f"trees/{p}.txt").decode()) for p in PARTS]
    except (zipfile.BadZipFile, KeyError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not the published archive ({error}); delete it") from None


def read_trees(path: Path, content: str) -> Rows:
    """Sentences, their parse and their label's name; UserError with the line for no tree."""
    depths: list[list[int]] = []
    rows = Rows(path, [], [], [], depths)
    for line, tree in enumerate(content.split("\n"), start=1):
        if not tree.strip():
            continue
        try:
            words, over = parse(tree)
        except ValueError as error:
            raise UserError(f"{path}, line {line}: no tree: {error}") from None
        rows.texts.append(" ".join(words))
        rows.labels.append(LABELS[int(tree.strip()[1])])
        rows.lines.append(line)
        depths.append(over)
    return rows


def parse(tree: str) -> tuple[list[str], list[int]]:
    """The words of a tree, and the depth of the lowest node over each boundary between them.

    ValueError, with the reason, if it is not binary or has other labels.

    >>> parse("(3 (2 Good) (2 (2 clean) (3 fun)))")
    (['Good', 'clean', 'fun'], [0, 1])
    """
    tree = tree.strip(" \r")
    words: list[str] = []
    depths: list[int] = []
    # How many children each open node has.
    open_nodes: list[int] = []
    place = 0
    while place < len(tree):
        node = _NODE.match(tree, place)
        if node is None:
            raise ValueError(f"no label from 0 to 4 at {tree[place : place + 20]!r}")
        place = node.end()
        if tree.startswith("(", place):
            open_nodes.append(0)
            continue
        end = tree.find(")", place)
        word = tree[place:end]
        if end < 0 or not word or " " in word or "(" in word:
            raise ValueError(f"no word at {tree[place : place + 20]!r}")
        words.append(word)
        place = end + 1
        while open_nodes:
            open_nodes[-1] += 1
            if open_nodes[-1] == 1:
                if not tree.startswith(" ", place):
                    raise ValueError(
                        f"one child, where a node has two, before {tree[place:][:20]!r}"
                    )
                place += 1
                depths.append(len(open_nodes) - 1)
                break
            if not tree.startswith(")", place):
                raise ValueError(f"a third child, or no end, at {tree[place : place + 20]!r}")
            place += 1
            open_nodes.pop()
        if not open_nodes:
            break
    if open_nodes or not words:
        raise ValueError("it does not end")
    if place < len(tree):
        raise ValueError(f"{tree[place : place + 20]!r} follows its end")
    return words, depths


def _binary(rows: Rows) -> Rows:
    """Without neutral rows, in two classes."""
    kept = select(rows, [i for i, label in enumerate(rows.labels) if label != "neutral"])
    kept.labels[:] = [label.removeprefix("very ") for label in kept.labels]
    return kept
