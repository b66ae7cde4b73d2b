"""Tokens of a continuous text to ids and back: characters, words, or what blanks separate.

Dimensions: N tokens.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Literal, get_args

import torch
from torch import Tensor

from treering._errors import UserError

Split = Literal["characters", "words", "blanks"]

UNKNOWN = "<unk>"
END_OF_LINE = "<eos>"
_FORMAT = "treering stream vocabulary 1"


def _words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]+|\n", unicodedata.normalize("NFC", text).lower())


def _between_blanks(text: str) -> list[str]:
    lines = text.removesuffix("\n").split("\n")
    return [token for line in lines for token in (*line.split(), END_OF_LINE)]


_SPLITTERS: dict[Split, Callable[[str], Iterable[str]]] = {
    "characters": lambda text: text,
    "words": _words,
    "blanks": _between_blanks,
}


class StreamVocabulary:
    """Token ids of one way to cut a text: 0 is any unknown token, then the tokens in order.

    split: `characters`, each for itself, as they are; `words`, lower case, runs of letters and
        digits, runs of other visible characters, and line ends; `blanks`, for a text that somebody
        else has cut already: what stands between blanks, as it is, and `<eos>` at every line's end.

    >>> vocabulary = StreamVocabulary.of_text("to be or\\nnot to be", "words")
    >>> vocabulary.tokens
    ('<unk>', 'be', 'to', '\\n', 'not', 'or')
    >>> vocabulary.encode("To BE there").tolist()
    [2, 1, 0]
    >>> vocabulary.decode([2, 1])
    'to be'
    """

    def __init__(self, tokens: Iterable[str], split: Split) -> None:
        """`tokens` get the ids 1, 2, ...; ValueError if one occurs twice or is `<unk>`."""
        self.tokens = (UNKNOWN, *tokens)
        self.split: Split = split
        self._ids = {token: number for number, token in enumerate(self.tokens)}
        if len(self._ids) != len(self.tokens):
            raise ValueError(f"a vocabulary's tokens must differ from each other and {UNKNOWN}")

    @classmethod
    def of_text(
        cls, text: str, split: Split, *, max_tokens: int | None = None, min_count: int = 1
    ) -> "StreamVocabulary":
        """The `max_tokens` commonest tokens (None: all) that occur at least `min_count` times.

        Commonest first; tokens of equal count in the order of their characters' numbers.
        """
        if max_tokens is not None and max_tokens < 1:
            raise UserError(f"max_tokens is {max_tokens}; write a number of at least 1")
        counts = Counter(_SPLITTERS[split](text))
        counts.pop(UNKNOWN, None)
        frequent = [token for token, count in counts.items() if count >= min_count]
        return cls(sorted(frequent, key=lambda token: (-counts[token], token))[:max_tokens], split)

    def __len__(self) -> int:
        """Number of ids, the unknown token included."""
        return len(self.tokens)

    def encode(self, text: str) -> Tensor:
        """The ids (N,) int64 of a text's tokens."""
        ids = self._ids
        return torch.tensor(
            [ids.get(token, 0) for token in _SPLITTERS[self.split](text)], dtype=torch.int64
        )

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids: exactly the encoded one for characters, with one blank between words."""
        return ("" if self.split == "characters" else " ").join(self.tokens[i] for i in ids)

    def to_json(self) -> str:
        """The vocabulary as JSON text that `from_json` reads."""
        content = {"format": _FORMAT, "split": self.split, "tokens": self.tokens[1:]}
        return json.dumps(content, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, source: str = "vocabulary") -> "StreamVocabulary":
        """The vocabulary that `to_json` wrote; `source` is named in the UserError otherwise."""
        expected = f'expected the JSON that StreamVocabulary.to_json gives ("format": "{_FORMAT}")'
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{source}: not JSON ({error}); {expected}") from None
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise UserError(f"{source}: not a stream vocabulary; {expected}")
        tokens = content.get("tokens")
        split = next((known for known in get_args(Split) if known == content.get("split")), None)
        if split is None:
            raise UserError(f'{source}: unknown "split" {content.get("split")!r}; {expected}')
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise UserError(f'{source}: "tokens" is not a list of strings; {expected}')
        try:
            return cls(tokens, split)
        except ValueError as error:
            raise UserError(f"{source}: {error}") from None
