"""What holds for every task, enumerated from the registry."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import one_hot

from treering import tasks
from treering._errors import UserError

from .oracles import ORACLES

SIZES = {  # input symbols, classes, chance, level, from the benchmark's table
    "even_pairs": (2, 2, "regular"),
    "modular_arithmetic": (9, 5, "regular"),
    "parity_check": (2, 2, "regular"),
    "cycle_navigation": (3, 5, "regular"),
    "modular_arithmetic_brackets": (11, 5, "deterministic context-free"),
    "reverse_string": (2, 2, "deterministic context-free"),
    "stack_manipulation": (5, 3, "deterministic context-free"),
    "solve_equation": (11, 5, "deterministic context-free"),
    "missing_duplicate_string": (4, 2, "context-sensitive"),
    "compute_sqrt": (2, 2, "context-sensitive"),
    "duplicate_string": (2, 2, "context-sensitive"),
    "binary_addition": (3, 3, "context-sensitive"),
    "binary_multiplication": (3, 3, "context-sensitive"),
    "odds_first": (2, 2, "context-sensitive"),
    "bucket_sort": (5, 5, "context-sensitive"),
}
OUTPUT_LENGTHS = {  # where it is not 1
    "reverse_string": lambda n: n,
    "stack_manipulation": lambda n: n + 1,
    "compute_sqrt": lambda n: -(-n // 2),
    "duplicate_string": lambda n: 2 * n,
    "binary_addition": lambda n: n + 1,
    "binary_multiplication": lambda n: n,
    "odds_first": lambda n: n,
    "bucket_sort": lambda n: n,
}
every_task = pytest.mark.parametrize("name", tasks.names())


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_registry_is_the_benchmark():
    assert set(tasks.names()) == set(SIZES) == set(ORACLES)
    for name, (inputs, classes, level) in SIZES.items():
        task = tasks.get(name)
        assert (task.name, task.input_size, task.output_size) == (name, inputs, classes)
        assert (task.level, task.chance) == (level, 1 / classes)


def test_unknown_name_offers_the_nearest():
    with pytest.raises(UserError, match="unknown task 'parity'; did you mean 'parity_check'"):
        tasks.get("parity")


@every_task
@settings(max_examples=40, deadline=None)
@given(length=st.integers(1, 60), batch=st.integers(1, 9), seed=st.integers(0, 2**31))
def test_samples_agree_with_the_oracle(name: str, length: int, batch: int, seed: int):
    task = tasks.get(name)
    sample = task.sample(batch, length, seeded(seed))
    inputs, targets, mask = sample

    real = length - 1 if name == "modular_arithmetic" and length % 2 == 0 else length
    outputs = OUTPUT_LENGTHS.get(name, lambda n: 1)(length)
    assert inputs.shape == (batch, real)
    assert task.output_length(length) == outputs
    assert targets.shape == mask.shape == (batch, outputs)
    assert (inputs.dtype, targets.dtype, mask.dtype) == (torch.int64, torch.int64, torch.bool)
    assert sample.lengths is None

    expected = [ORACLES[name](row) for row in inputs.tolist()]
    assert targets.tolist() == expected
    terminated = name in ("stack_manipulation", "binary_addition", "binary_multiplication")
    for row, counts in zip(expected, mask.tolist(), strict=True):
        counted = row.index(2) + 1 if terminated else outputs
        assert counts == [True] * counted + [False] * (outputs - counted)

    # What is drawn is in the language, and solving it anew gives the same.
    assert torch.equal(task.solve(inputs), targets)
    assert torch.equal(task.solve(one_hot(inputs, task.input_size).float()), targets)
    assert torch.equal(task.solve(inputs.to(torch.uint8)), targets)


@every_task
@pytest.mark.parametrize("length", [257, 500])
def test_long_inputs_agree_with_the_oracle(name: str, length: int):
    inputs, targets, _ = tasks.get(name).sample(6, length, seeded(length))
    assert targets.tolist() == [ORACLES[name](row) for row in inputs.tolist()]


@every_task
def test_seed_decides(name: str):
    task = tasks.get(name)
    first = task.sample(16, 30, seeded(1))
    again = task.sample(16, 30, seeded(1))
    other = task.sample(16, 30, seeded(2))
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.targets, again.targets)
    assert not torch.equal(first.inputs, other.inputs)
    generator = seeded(1)
    task.sample(16, 30, generator)
    assert not torch.equal(task.sample(16, 30, generator).inputs, first.inputs)


@every_task
def test_without_generator_the_global_seed_decides(name: str):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        first = tasks.get(name).sample(8, 20)
        torch.manual_seed(3)
        assert torch.equal(tasks.get(name).sample(8, 20).inputs, first.inputs)


@every_task
def test_text_round_trip(name: str):
    task = tasks.get(name)
    inputs = task.sample(1, 21, seeded(5)).inputs
    assert torch.equal(task.encode(task.decode(inputs[0])), inputs)


@every_task
@pytest.mark.parametrize(("batch", "length"), [(0, 5), (5, 0), (-1, 5)])
def test_empty_samples_are_refused(name: str, batch: int, length: int):
    with pytest.raises(UserError, match=r"(batch|length) is (0|-1), but a sample needs at least 1"):
        tasks.get(name).sample(batch, length)


@every_task
def test_bad_tensors_are_refused(name: str):
    task = tasks.get(name)
    size = task.input_size
    with pytest.raises(UserError, match=rf"symbol {size} at row 0, position 2.*0\.\.{size - 1}"):
        task.solve(torch.tensor([[0, 0, size]]))
    with pytest.raises(UserError, match="symbol -1 at row 1, position 0"):
        task.solve(torch.tensor([[0], [-1]]))
    with pytest.raises(UserError, match=r"inputs of shape \(4,\).*give int64 symbols"):
        task.solve(torch.zeros(4, dtype=torch.int64))
    with pytest.raises(UserError, match=rf"shape \(1, 4, {size + 1}\).*\(batch, length, {size}\)"):
        task.solve(torch.zeros(1, 4, size + 1))
    with pytest.raises(UserError, match="row 0, position 1 is not one-hot"):
        task.solve(torch.eye(size)[[0, 0]][None] * torch.tensor([1.0, 0.5])[:, None])
    with pytest.raises(UserError, match="length 0"):
        task.solve(torch.zeros(2, 0, dtype=torch.int64))
    with pytest.raises(UserError, match=r"type torch\.bool"):
        task.solve(torch.zeros(2, 3, dtype=torch.bool))
    with pytest.raises(UserError, match="'~' is no symbol"):
        task.encode("0~")
    with pytest.raises(UserError, match="it is empty"):
        task.encode("")


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("modular_arithmetic", "1+", "alternate them"),
        ("modular_arithmetic", "+1+", "alternate them"),
        ("modular_arithmetic", "112", "alternate them"),
        ("stack_manipulation", "2", "stack symbol"),
        ("stack_manipulation", "0120", "stack symbol"),
        ("missing_duplicate_string", "0", "the only input of length 1"),
        ("missing_duplicate_string", "0101", "exactly one symbol"),
        ("missing_duplicate_string", "2222", "exactly one symbol"),
        ("missing_duplicate_string", "0210", "exactly one symbol"),
        ("missing_duplicate_string", "0122", "exactly one symbol"),
        ("missing_duplicate_string", "01201", "exactly one symbol"),
        ("missing_duplicate_string", "0123", "exactly one symbol"),
        ("missing_duplicate_string", "320", "exactly one symbol"),
        ("binary_addition", "0101", "not two numbers"),
        ("binary_addition", "+01", "not two numbers"),
        ("binary_addition", "01+", "not two numbers"),
        ("binary_addition", "0+1+1", "not two numbers"),
        ("binary_addition", "0+", "not two numbers"),
        ("binary_multiplication", "1*1*1", "not two numbers"),
        ("modular_arithmetic_brackets", "x", "pair of brackets"),
        ("modular_arithmetic_brackets", "1+2", "pair of brackets"),
        ("modular_arithmetic_brackets", "(1+2*3)", "pair of brackets"),
        ("modular_arithmetic_brackets", "((1+2)*3-4)", "pair of brackets"),
        ("modular_arithmetic_brackets", "(1+2", "pair of brackets"),
        ("modular_arithmetic_brackets", ")1(", "pair of brackets"),
        ("modular_arithmetic_brackets", "(12)", "pair of brackets"),
        ("modular_arithmetic_brackets", "()", "pair of brackets"),
        ("modular_arithmetic_brackets", "(1+)", "pair of brackets"),
        ("modular_arithmetic_brackets", "(+1)", "pair of brackets"),
        ("modular_arithmetic_brackets", "--1", "pair of brackets"),
        ("modular_arithmetic_brackets", "1-", "pair of brackets"),
        ("modular_arithmetic_brackets", "(1)(2)", "pair of brackets"),
        ("solve_equation", "01", "below length 3"),
        ("solve_equation", "1=1", "one x"),
        ("solve_equation", "(x+x)=1", "one x"),
        ("solve_equation", "(x+1)1=", "one x"),
        ("solve_equation", "x+1=2", "one x"),
        ("solve_equation", "x==", "one x"),
        ("solve_equation", "(x=1)=2", "one x"),
    ],
)
def test_outside_the_language(name: str, text: str, reason: str):
    task = tasks.get(name)
    good = task.sample(1, len(text), seeded(0)).inputs
    bad = task.encode(text)
    if good.shape == bad.shape:  # an even modular_arithmetic has no good row of that length
        bad = torch.cat((good, bad))
    with pytest.raises(UserError, match=reason) as caught:
        task.solve(bad)
    assert f"row {len(bad) - 1} is {text!r}" in str(caught.value)
