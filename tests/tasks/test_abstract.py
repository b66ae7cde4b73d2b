"""What a generated task may declare beyond what the benchmark's fifteen do."""

import pytest
import torch
from torch import Tensor

from treering import tasks
from treering._errors import UserError
from treering.tasks.abstract import NOT_ASKED, GeneratedTask


class EveryThird(GeneratedTask):
    """The symbol itself, asked for at every third one only."""

    name = "every_third"
    level = "regular"
    symbols = tuple(f"word{number}" for number in range(12))
    output_size = 12
    reads = "along"
    shortest = 3

    def draw(self, batch: int, length: int, generator: torch.Generator | None) -> Tensor:
        return torch.randint(12, (batch, length), generator=generator)

    def answer(self, inputs: Tensor) -> Tensor:
        places = torch.arange(inputs.shape[1])
        return torch.where(places % 3 == 2, inputs, NOT_ASKED)


TASK = EveryThird()


def test_answers_along_the_input_are_as_many_as_its_symbols():
    assert TASK.output_length(7) == 7
    inputs, targets, mask = TASK.sample(2, 7)
    assert targets.shape == mask.shape == inputs.shape
    assert mask.tolist() == [[False, False, True, False, False, True, False]] * 2
    assert (targets[~mask] == NOT_ASKED).all()
    assert (targets[mask] >= 0).all()


def test_shorter_samples_than_the_shortest_are_refused():
    with pytest.raises(UserError, match="length is 2, but a sample needs at least 3; write length"):
        TASK.sample(1, 2)
    with pytest.raises(UserError, match="batch is 0, but a sample needs at least 1"):
        TASK.sample(0, 3)
    assert TASK.sample(1, 3).inputs.shape == (1, 3)


def test_symbols_may_be_words():
    assert TASK.input_size == 12
    symbols = TASK.encode("word3  word11\tword0")
    assert symbols.tolist() == [[3, 11, 0]]
    assert TASK.decode(symbols[0]) == "word3 word11 word0"
    with pytest.raises(
        UserError, match=r"'word12' is no symbol.* the words word0 word1 .*\.\.\. word10 word11$"
    ):
        TASK.encode("word3 word12")
    with pytest.raises(UserError, match="it is empty"):
        TASK.encode("  ")
    with pytest.raises(
        UserError, match=r"symbol 12 .* \(in order: word0 .* \.\.\. word10 word11\)"
    ):
        TASK.solve(torch.tensor([[0, 12]]))


@pytest.mark.parametrize("name", tasks.names())
def test_the_benchmarks_tasks_answer_everywhere_after_the_input(name: str):
    task = tasks.get(name)
    assert (task.reads, task.shortest) == ("after", 1)
    assert (task.sample(4, 9).targets >= 0).all()
