"""The binary tree of an expression, against the round brackets of the published format."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from treering.tasks.listops import ListOpsVocabulary
from treering.tasks.listops.language import OPERATORS, tokens_of
from treering.tasks.listops.trees import ranks_of


def written(operator: str, arguments: list[str]) -> str:
    """In the published format: each argument in brackets with all that stands before it."""
    text = operator
    for part in (*arguments, "]"):
        text = f"( {text} {part} )"
    return text


expressions = st.recursive(
    st.sampled_from("0123456789"),
    lambda inner: st.builds(
        written, st.sampled_from(list(OPERATORS)), st.lists(inner, min_size=1, max_size=5)
    ),
    max_leaves=25,
)


def depths(text: str) -> list[int]:
    """For each boundary between two tokens, how many round brackets are around both, less one."""
    found: list[int] = []
    around, lowest = 0, -1
    for part in text.split():
        if part in ("(", ")"):
            around += 1 if part == "(" else -1
            lowest = min(lowest, around)
        else:
            found.append(lowest - 1)
            lowest = around
    return found[1:]


def test_the_example_of_the_published_format():
    """[MAX 2 [MIN 4 7 ] ], where what MIN belongs to is merged with [MAX 2 as a whole."""
    tokens = torch.tensor(ListOpsVocabulary().encode(["[MAX 2 [MIN 4 7 ] ]"]))
    assert ranks_of(tokens, torch.tensor([7])).tolist() == [[-2, -1, -4, -3, -2, 0, 0]]


@settings(deadline=None, derandomize=True)
@given(st.lists(expressions, min_size=1, max_size=5))
def test_the_tree_is_the_one_that_round_brackets_spell(texts: list[str]):
    ids = [torch.tensor(row) for row in ListOpsVocabulary().encode(texts)]
    lengths = torch.tensor([len(row) for row in ids])
    tokens = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
    found = ranks_of(tokens, lengths)
    assert found.shape == tokens.shape
    for text, row in zip(texts, found.tolist(), strict=True):
        wanted = [-depth for depth in depths(text)]
        assert len(wanted) == len(tokens_of(text)) - 1
        assert row == wanted + [0] * (len(row) - len(wanted))
