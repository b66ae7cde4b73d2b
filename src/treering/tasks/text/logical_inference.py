"""Logical inference: the relation between two propositions, in training with few operators.

Bowman, Manning, Potts, "Tree-structured composition in neural networks without tree-structured
architectures" (CoCo at NIPS 2015), as kept in the repository of Shen et al., "Ordered Memory"
(NeurIPS 2019): six variables, `and`, `or`, `not`, and the brackets of a binary tree. Seven
relations: `=` equivalent, `<` entails, `>` is entailed, `^` negation, `|` never both, `v` always
one, `#` none of these.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from treering._errors import UserError
from treering.tasks.abstract import Sizes
from treering.tasks.text import locate
from treering.tasks.text.dataset import TextTask, hold_out, make_task
from treering.tasks.text.files import Rows, read_text

FOLDER = "logical_inference"
ADDRESS = (
    "https://raw.githubusercontent.com/yikangshen/Ordered-Memory/"
    "2a0d3a22fb70216993a7faf25de3515f42e10431/data/propositionallogic/"
)
TRAIN_SHA256 = (
    "6b7679d24a5121e747bbb6e1606c33773ef2803d2f1e3e5961f396bfe6d5ead1",
    "b18140de23966481c20d6d4cac1f014322f760d6f891f643ff4beca48df1d347",
    "b08cfe4e89fa941d053b7ba229f3743d25d0a73235c628bf45da645336ecc22a",
    "ab0dd5694b97815ed29d2be7016790ba78b5173b68df5702ed4d0f9cad087041",
    "ca53b91edcb966330ca6a4241ca313932f3dd897ce7af18b2446e6c551bb63fc",
    "8c6db46c7527aea7f685400075c2cebad2a36acb4904371c052827f3769baa00",
    "ab507a99dcd2f7a2c4a3c81fbdbf0e55e1169d48f1be177ee8278778f34cf141",
)
TEST_SHA256 = (
    "0f0f47ea2699b52c8e49d84466afdae457111320669b328e752b690d21dab0ef",
    "d846fd8e2e10c44b95796cd31a3ea9056bd2ab7e510447e92172d252b5a4ebcf",
    "74d3b9346bbdff39e9f6bd81bb84446309b3918e4d6dbae820280958c935fb82",
    "c22eb4b2120fd2599eea1772ff2983e44b5e5501f17bfedc7f526ab6ddea9557",
    "171a5b9ff84c8c8972662d7ee84d9bae88a0b0caf121c779e1898d08ff23d056",
    "4456aab62f4189a95645822d7fd22b8b12ebadc15679fb37ed93921d1ee11004",
    "b99fa4c2b48db710213cbfcf948ab08fdaf327c07f5e7fa978747f1cf73c53d0",
    "9951b19945ea6b7b388118b05ac497b197aba7e24fbd501c5d9cf71f57433da5",
    "8b653190922c9b5902339714e79d22654e0f34e61d691e0d592589a92882bc30",
    "6d404315b4e0b15e70084f621f7e9677deebf7378016b0df95fbb63487851ed5",
    "bb3b3d312bb3223bdad030695d6004dc9d1d6131fe26a5531f2e54cc1bd1e780",
    "f6ee99fac9b1459448f6b2dc0a263fab7493d9a1e05ed1d32e0674031aa4fda5",
    "37d63e62b894cd2f25977d3092c71da23244cbadcfa12909183f57da938abb9f",
)
"""By operators of the larger sentence: 0, 1, ..."""
RELATIONS = ("<", ">", "=", "^", "|", "#", "v")
SEPARATOR = ";"
_WORDS = frozenset({"(", ")", *"abcdef", "and", "or", "not"})


def load_logical_inference(*, seed: int = 0) -> TextTask:
    """Pairs of propositions with up to 6 operators to train on, with 0 to 12 to test on.

    A text is one proposition, `;` and the other; brackets are words, as in the paper's sequence
    models: without them `a or b and c` says two things. Operators are those of the larger
    proposition; 12 stands for 12 to 19. A tenth of the 135,529 training pairs, stratified by
    relation and drawn by `seed`, is for validation. Of the 37,367 test pairs each number of
    operators has an accuracy of its own (`Sizes`); their whole is the score. `chance`, always
    answering `#`, is about a half.

    Looks in $TREERING_DATA/logical_inference, then in the user's cache folder (train0.tsv to
    train6.tsv, test0.tsv to test12.tsv, plain or .gz), then downloads 12 MB. UserError if that
    fails or a line is no `relation<TAB>proposition<TAB>proposition`.
    """
    train_and_validation, _ = _read("train", TRAIN_SHA256)
    train, validation = hold_out(train_and_validation, (0.1,), seed)
    test, operators = _read("test", TEST_SHA256)
    return make_task(
        "logical-inference",
        train,
        validation,
        test,
        max_tokens=None,
        max_words=None,
        cut="blanks",
        labels=RELATIONS,
        separator=SEPARATOR,
        sizes=Sizes("operators", (0, len(TRAIN_SHA256) - 1), torch.tensor(operators)),
    )


def _read(part: str, digests: Sequence[str]) -> tuple[Rows, list[int]]:
    """The pairs of all files of a part, and the operators of each."""
    read = []
    for operators, digest in enumerate(digests):
        name = f"{part}{operators}"
        path = locate.obtain(FOLDER, f"{name}.tsv", ADDRESS + name, digest)
        read.append(read_pairs(path))
    rows = Rows(read[0].path, [], [], [])
    for one in read:
        rows.texts.extend(one.texts)
        rows.labels.extend(one.labels)
        rows.lines.extend(one.lines)
    return rows, [operators for operators, one in enumerate(read) for _ in one.texts]


def read_pairs(path: Path) -> Rows:
    """Rows of a file of pairs; UserError with the line for anything else."""
    rows = Rows(path, [], [], [])
    for line, content in enumerate(read_text(path).split("\n"), start=1):
        if not content.strip():
            continue
        fields = [field.strip() for field in content.split("\t")]
        words = [field.split() for field in fields[1:]]
        if len(fields) != 3 or fields[0] not in RELATIONS or not all(words):
            raise UserError(
                f"{path}, line {line}: {content[:40]!r}; a line is relation<TAB>proposition<TAB>"
                f"proposition with one of the relations {' '.join(RELATIONS)}"
            )
        if unknown := sorted({word for sentence in words for word in sentence} - _WORDS):
            raise UserError(
                f"{path}, line {line}: {unknown[0]!r} is none of {' '.join(sorted(_WORDS))}"
            )
        rows.texts.append(f"{fields[1]} {SEPARATOR} {fields[2]}")
        rows.labels.append(fields[0])
        rows.lines.append(line)
    return rows
