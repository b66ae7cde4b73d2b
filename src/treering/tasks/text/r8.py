"""R8: Reuters news in eight classes, 5,485 training and 2,189 test documents.

Lewis's Reuters-21578, distribution 1.0 (copyright Reuters Ltd and Carnegie Group, free for
research purposes only), in A. Cardoso-Cachopo's single-label split of 2007, as kept in the
repository of Yao, Mao, Luo, "Graph Convolutional Networks for Text Classification" (AAAI
2019): lower case, without punctuation and digits, stop words kept.
"""

from pathlib import Path

from treering._errors import UserError
from treering.tasks.text import locate
from treering.tasks.text.dataset import TextTask, hold_out, make_task
from treering.tasks.text.files import Rows, add_row, read_text

FOLDER = "r8"
ADDRESS = (
    "https://raw.githubusercontent.com/yao8839836/text_gcn/"
    "962223652e9bb164ac2d83cd09fc7b8845ce860b/data/R8/"
)
SHA256 = {
    "train.txt": "3ed60c905aaa95b96c3fc4afb6d14ad2e20106c59c5b9dda950dcb3075eecfbe",
    "test.txt": "2ba368c42e6808bc3dc68b8f7879eb07a2810ed137f0b304e2213b689677e561",
}


def load_r8(
    *,
    max_tokens: int = 32,
    max_words: int | None = None,
    min_tokens: int | None = None,
    seed: int = 0,
) -> TextTask:
    """R8 as a task: the first `max_tokens` words of a document, the official test split.

    With `min_tokens`, a document of fewer words is repeated until it has so many.

    A tenth of the training documents, stratified and drawn by `seed`, is the validation
    split; the vocabulary (the `max_words` commonest words, None for all) comes from the other
    nine tenths. Labels are sorted. Four documents of the official split occur in both train
    and test; they are kept, as published numbers include them. `chance`, always answering
    `earn`, is 0.495.

    Looks in $TREERING_DATA/r8, then in the user's cache folder (train.txt, test.txt, plain or
    .gz), then downloads 4.5 MB from the official repository. UserError if that fails or a
    file is not in R8's format.
    """
    train, validation = hold_out(_rows("train.txt"), (0.1,), seed)
    test = _rows("test.txt")
    return make_task(
        "r8",
        train,
        validation,
        test,
        max_tokens=max_tokens,
        max_words=max_words,
        min_tokens=min_tokens,
    )


def _rows(name: str) -> Rows:
    return read_labelled(locate.obtain(FOLDER, name, ADDRESS + name, SHA256[name]))


def read_labelled(path: Path) -> Rows:
    """Rows of a file with `label<TAB>text` on each line and no header."""
    rows = Rows(path, [], [], [])
    for line, content in enumerate(read_text(path).split("\n"), start=1):
        if not content.strip():
            continue
        label, tab, text = content.partition("\t")
        if not tab:
            raise UserError(f"{path}, line {line}: no tab; R8 has label<TAB>text on each line")
        add_row(rows, line, text, label, ("text", "label"))
    return rows
