"""What expressions are worth, against Python's own evaluation, and which are none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treering._errors import UserError
from treering.tasks.listops import ListOpsVocabulary
from treering.tasks.listops.language import OPERATORS, TOKENS, evaluate, tokens_of


def middle(*arguments: int) -> int:
    ordered = sorted(arguments)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return (low + high) // 2


PYTHON = {
    "[MIN": lambda *arguments: sorted(arguments)[0],
    "[MAX": lambda *arguments: sorted(arguments)[-1],
    "[MED": middle,
    "[SM": lambda *arguments: int(str(sum(arguments))[-1]),
}
NAMES = {"[MIN": "least", "[MAX": "most", "[MED": "middle", "[SM": "last"}
SCOPE = {name: PYTHON[operator] for operator, name in NAMES.items()}

expressions = st.recursive(
    st.sampled_from("0123456789"),
    lambda inner: st.tuples(st.sampled_from(sorted(OPERATORS)), st.lists(inner, min_size=1)).map(
        lambda parts: " ".join([parts[0], *parts[1], "]"])
    ),
)


@given(expressions)
def test_values_are_those_of_the_same_expression_in_python(text: str):
    code = text.replace(" ]", ")").replace(" ", ",")
    for operator, name in NAMES.items():
        code = code.replace(f"{operator},", f"{name}(")
    assert evaluate(tokens_of(text)) == eval(code, dict(SCOPE))


def test_round_brackets_are_no_tokens():
    text = "( ( ( ( [SM 6 ) ( ( ( [MIN 5 ) 9 ) ] ) ) 9 ) ] )"
    assert tokens_of(text) == ["[SM", "6", "[MIN", "5", "9", "]", "9", "]"]
    assert evaluate(tokens_of(text)) == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty"),
        ("( )", "it is empty"),
        ("[SM 1 2", r"'\[SM' is not closed"),
        ("[SM 1 [MIN 2 ]", r"'\[SM' is not closed"),
        ("]", "closes nothing"),
        ("[SM ]", r"'\[SM' has no arguments"),
        ("3 4", "'4' follows the end"),
        ("[SM 3 ] ]", "']' follows the end"),
        ("[FIRST 3 4 ]", r"'\[FIRST' is none of 0 1 2 .* \[SM \]"),
        ("[SM 12 ]", "'12' is none of"),
        ("[SM \u0663 ]", "'\u0663' is none of"),
    ],
)
def test_what_is_no_expression(text: str, reason: str):
    with pytest.raises(ValueError, match=reason):
        evaluate(tokens_of(text))


class TestVocabulary:
    def test_sixteen_ids(self):
        vocabulary = ListOpsVocabulary()
        assert len(vocabulary) == 16
        assert sorted(vocabulary.ids.values()) == list(range(1, 16))
        assert tuple(vocabulary.ids) == TOKENS

    def test_an_empty_text_has_no_tokens_and_a_wrong_one_is_refused(self):
        vocabulary = ListOpsVocabulary()
        assert vocabulary.encode(["", "7", " [MIN 1  2 ]"]) == [[], [8], [11, 2, 3, 15]]
        with pytest.raises(UserError, match=r"listops: cannot read '\[MIN 1': .* write e\.g\."):
            vocabulary.encode(["7", "[MIN 1"])

    def test_json_comes_back(self):
        text = ListOpsVocabulary().to_json()
        assert ListOpsVocabulary.wrote(text)
        assert isinstance(ListOpsVocabulary.from_json(text), ListOpsVocabulary)

    @pytest.mark.parametrize(
        "text",
        ["", "{", "[]", '{"format": "treering vocabulary 1", "words": []}',
         '{"format": "treering listops 1", "tokens": ["0"]}'],
    )  # fmt: skip
    def test_other_json_is_refused(self, text: str):
        with pytest.raises(UserError, match="here: not the vocabulary of listops"):
            ListOpsVocabulary.from_json(text, "here")
