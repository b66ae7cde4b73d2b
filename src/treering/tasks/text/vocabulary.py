"""Words to ids and back."""

import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from tokenizers.normalizers import NFC, Lowercase
from tokenizers.normalizers import Sequence as Normalizers
from tokenizers.pre_tokenizers import Whitespace

from treering._errors import UserError

PADDING, UNKNOWN = 0, 1
_RESERVED = ("[PAD]", "[UNK]")
_FORMAT = "treering vocabulary 1"
_NORMALIZER = Normalizers([NFC(), Lowercase()])
_WHITESPACE = Whitespace()
Cut = Literal["words", "blanks"]
_ASCII_WORDS = re.compile(r"\w+|[^\w\s]+", re.ASCII)


class Vocabulary:
    """Word ids: 0 is padding, 1 any unknown word, then the words, commonest first.

    A text is normalised (NFC, lower case) and cut into runs of letters and digits and runs
    of other visible characters: "Don't stop!" is don, ', t, stop, !. With `cut="blanks"`, for
    texts that somebody else has cut, into what stands between blanks: "Do n't !" is do, n't, !.

    >>> vocabulary = Vocabulary.of_texts(["The cat.", "the dog"])
    >>> len(vocabulary), vocabulary.words
    (6, ('the', '.', 'cat', 'dog'))
    >>> vocabulary.encode(["THE bird"])
    [[2, 1]]
    """

    def __init__(self, words: Sequence[str], cut: Cut = "words") -> None:
        """`words` get the ids 2, 3, ...; ValueError if one occurs twice or is reserved."""
        ids = {word: number for number, word in enumerate((*_RESERVED, *words))}
        if len(ids) != len(words) + len(_RESERVED):
            raise ValueError(
                "a vocabulary's words must differ from each other and from [PAD], [UNK]"
            )
        self.words = tuple(words)
        self.cut: Cut = cut
        self._ids = ids

    @classmethod
    def of_texts(
        cls,
        texts: Iterable[str],
        *,
        max_words: int | None = None,
        min_count: int = 1,
        cut: Cut = "words",
    ) -> "Vocabulary":
        """The `max_words` commonest words (None: all) that occur at least `min_count` times.

        Words of equal count come in alphabetical order, so equal texts give equal ids.
        """
        for what, number in (("max_words", max_words), ("min_count", min_count)):
            if number is not None and number < 1:
                raise UserError(f"{what} is {number}; write a number of at least 1")
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(words_of(text, cut))
        words = [word for word, count in counts.items() if count >= min_count]
        return cls(sorted(words, key=lambda word: (-counts[word], word))[:max_words], cut)

    def __len__(self) -> int:
        """Number of ids, padding and unknown included."""
        return len(self.words) + len(_RESERVED)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text's words; an empty list for a text without visible characters."""
        ids = self._ids
        return [[ids.get(word, UNKNOWN) for word in words_of(text, self.cut)] for text in texts]

    def to_json(self) -> str:
        """The vocabulary as JSON text that `from_json` reads."""
        content: dict[str, Any] = {"format": _FORMAT, "words": self.words}
        if self.cut != "words":
            content["cut"] = self.cut
        return json.dumps(content, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, source: str = "vocabulary") -> "Vocabulary":
        """The vocabulary that `to_json` wrote; `source` is named in the UserError otherwise."""
        expected = f'expected the JSON that Vocabulary.save writes ("format": "{_FORMAT}")'
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{source}: not JSON ({error}); {expected}") from None
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise UserError(f"{source}: not a vocabulary; {expected}")
        words = content.get("words")
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise UserError(f'{source}: "words" is not a list of strings; {expected}')
        cut = next((known for known in get_args(Cut) if known == content.get("cut", "words")), None)
        if cut is None:
            raise UserError(f'{source}: unknown "cut" {content["cut"]!r}; {expected}')
        try:
            return cls(words, cut)
        except ValueError as error:
            raise UserError(f"{source}: {error}") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the vocabulary, whole or not at all."""
        path = Path(path)
        try:
            handle, part = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    file.write(self.to_json())
                Path(part).replace(path)
            except BaseException:
                Path(part).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise UserError(f"{path}: cannot write the vocabulary: {error.strerror}") from None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Vocabulary":
        """The vocabulary that `save` wrote; UserError for any other file."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise UserError(f"{path}: not UTF-8 text, so not a vocabulary") from None
        except OSError as error:
            raise UserError(f"{path}: cannot read the vocabulary: {error.strerror}") from None
        return cls.from_json(text, str(path))


def words_of(text: str, cut: Cut = "words") -> list[str]:
    """The words of a text, in their order."""
    if cut == "blanks":
        # Not split(): other white space than a blank may stand within a word.
        return [word for word in _NORMALIZER.normalize_str(text).split(" ") if word]
    if text.isascii():
        # The same words in a third of the time.
        return _ASCII_WORDS.findall(text.lower())
    normal = _NORMALIZER.normalize_str(text)
    return [word for word, _ in _WHITESPACE.pre_tokenize_str(normal)]
