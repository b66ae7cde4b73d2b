"""Tokens of ListOps to ids."""

import json
from collections.abc import Mapping, Sequence
from typing import ClassVar

from treering._errors import UserError
from treering.tasks.listops.language import TOKENS, evaluate, tokens_of

PADDING = 0
_FORMAT = "treering listops 1"


class ListOpsVocabulary:
    """Ids of the fifteen tokens, which no data can change: 0 is padding, then as in `TOKENS`.

    >>> ListOpsVocabulary().encode(["[MAX 2 9 ]", "( ( ( [SM 5 ) 7 ) ] )"])
    [[12, 3, 10, 15], [14, 6, 8, 15]]
    """

    ids: ClassVar[Mapping[str, int]] = {
        token: number for number, token in enumerate(TOKENS, start=PADDING + 1)
    }

    def __len__(self) -> int:
        """Number of ids, padding included."""
        return len(self.ids) + 1

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text's tokens; an empty list for an empty text.

        UserError for a text that is no expression.
        """
        return [self._ids_of(text) for text in texts]

    def _ids_of(self, text: str) -> list[int]:
        tokens = tokens_of(text)
        if tokens:
            try:
                evaluate(tokens)
            except ValueError as error:
                raise UserError(
                    f"listops: cannot read {text[:60]!r}: {error}; write e.g. '[MAX 2 9 [MIN 4 7 ]"
                    " 0 ]'"
                ) from None
        return [self.ids[token] for token in tokens]

    def to_json(self) -> str:
        """The vocabulary as JSON text that `from_json` reads."""
        return json.dumps({"format": _FORMAT, "tokens": TOKENS})

    @classmethod
    def wrote(cls, text: str) -> bool:
        """Whether a JSON text is one that `to_json` wrote, whatever tokens it has."""
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            return False
        return isinstance(content, dict) and content.get("format") == _FORMAT

    @classmethod
    def from_json(cls, text: str, source: str = "vocabulary") -> "ListOpsVocabulary":
        """The vocabulary that `to_json` wrote; `source` is named in the UserError otherwise."""
        if not cls.wrote(text) or json.loads(text).get("tokens") != list(TOKENS):
            raise UserError(
                f'{source}: not the vocabulary of listops; expected "format": "{_FORMAT}" and the'
                f" tokens {' '.join(TOKENS)}"
            )
        return cls()
