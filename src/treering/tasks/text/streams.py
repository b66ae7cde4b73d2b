"""Continuous texts as tasks for language models: the user's own, tiny Shakespeare, WikiText-2.

tiny Shakespeare: 1,115,394 characters of Shakespeare's plays, in the public domain; A. Karpathy,
"The Unreasonable Effectiveness of Recurrent Neural Networks" (2015).

WikiText-2: Merity, Xiong, Bradbury, Socher, "Pointer Sentinel Mixture Models" (ICLR 2017); from
Wikipedia, CC BY-SA 3.0. The word-level edition, cut at blanks, rare words replaced by `<unk>`,
as kept in PyTorch's example of a word language model.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from treering._errors import UserError
from treering.tasks.abstract import StreamTask
from treering.tasks.text import locate
from treering.tasks.text.files import read_text
from treering.tasks.text.stream_vocabulary import Split, StreamVocabulary

Unit = Literal["character", "word"]

SHAKESPEARE = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/"
    "6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/input.txt",
    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
)
WIKITEXT2 = (
    "https://raw.githubusercontent.com/pytorch/examples/"
    "77f55b912142e11fcfdf5b530231fb9c52f181e8/word_language_model/data/wikitext-2/"
)
WIKITEXT2_SHA256 = {
    "train.txt": "9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f",
    "valid.txt": "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
    "test.txt": "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
}


@dataclass(frozen=True, eq=False, kw_only=True)
class TextStreamTask(StreamTask):
    """A `StreamTask` of a text, with what it takes to read further texts the same way."""

    vocabulary: StreamVocabulary


def load_text(
    path: str | os.PathLike[str],
    unit: Unit = "character",
    *,
    max_words: int | None = None,
    test_path: str | os.PathLike[str] | None = None,
) -> TextStreamTask:
    """A text file (or .gz) in UTF-8 as a language model's task.

    The first nine tenths of the text are for training, the next twentieth for validation, the last
    for testing; with `test_path` that file is the test stream, and the last tenth of `path` is
    for validation. The vocabulary comes from the training part alone. Of characters it has every
    one that occurs there; of words (see `StreamVocabulary`) the `max_words` commonest (None: all)
    that occur at least twice, so that the model meets the unknown word while it learns.

    Needs about 100 bytes of memory per character. UserError for a file that cannot be used.
    """
    if unit == "character" and max_words is not None:
        raise UserError(f"max_words = {max_words} is for words; write unit='word' with it")
    path = Path(path)
    test = None if test_path is None else _text(Path(test_path))
    return _cut(path.name, _text(path), unit, max_words, test)


def load_tinyshakespeare() -> TextStreamTask:
    """Tiny Shakespeare by characters: as `load_text` splits it, the first 90% for training.

    The customary split has one part behind those 90%; here its first half is for validation, its
    second for testing. Looks in $TREERING_DATA/tinyshakespeare, then in the user's cache folder
    (input.txt, plain or .gz), then downloads 1.1 MB. UserError if that fails.
    """
    text = _text(locate.obtain("tinyshakespeare", "input.txt", *SHAKESPEARE))
    return _cut("tinyshakespeare", text, "character", None, None)


def load_wikitext2() -> TextStreamTask:
    """WikiText-2 by words, in its own split: 2,088,628, 217,646 and 245,569 tokens.

    33,278 tokens in the vocabulary, with `<unk>` and one `<eos>` a line. Looks in
    $TREERING_DATA/wikitext2, then in the user's cache folder (train.txt, valid.txt, test.txt,
    plain or .gz), then downloads 13 MB. UserError if that fails.
    """
    train, validation, test = (
        _text(locate.obtain("wikitext2", name, WIKITEXT2 + name, sha256))
        for name, sha256 in WIKITEXT2_SHA256.items()
    )
    return _task("wikitext2", (train, validation, test), "word", "blanks", None, 1)


def _text(path: Path) -> str:
    return read_text(path).replace("\r\n", "\n")


def _cut(
    name: str, text: str, unit: Unit, max_words: int | None, test: str | None
) -> TextStreamTask:
    end = len(text) * 9 // 10
    middle = len(text) * 19 // 20 if test is None else len(text)
    parts = text[:end], text[end:middle], text[middle:] if test is None else test
    if unit == "character":
        return _task(name, parts, unit, "characters", None, 1)
    return _task(name, parts, unit, "words", max_words, 2)


def _task(
    name: str,
    parts: tuple[str, str, str],
    unit: Unit,
    split: Split,
    max_tokens: int | None,
    min_count: int,
) -> TextStreamTask:
    vocabulary = StreamVocabulary.of_text(
        parts[0], split, max_tokens=max_tokens, min_count=min_count
    )
    train, validation, test = map(vocabulary.encode, parts)
    return TextStreamTask(
        name=name,
        input_size=len(vocabulary),
        train=train,
        validation=validation,
        test=test,
        unit=unit,
        vocabulary=vocabulary,
    )
