"""Tasks to train and to compare on; importing this package needs torch and nothing else.

`get` knows the generated tasks: the benchmark's fifteen formal languages, which `names` lists, and
those with an answer at every symbol (`all_names`). `treering.tasks.text` (the user's own files, R8,
texts for language models) is a package of its own, imported on demand.
"""

from treering._errors import UserError, nearest
from treering.tasks.abstract import Batch as Batch
from treering.tasks.abstract import DatasetTask as DatasetTask
from treering.tasks.abstract import GeneratedTask as GeneratedTask
from treering.tasks.abstract import RaggedBatch as RaggedBatch
from treering.tasks.abstract import Sizes as Sizes
from treering.tasks.abstract import Split as Split
from treering.tasks.abstract import StreamTask as StreamTask
from treering.tasks.abstract import Task as Task
from treering.tasks.formal.binary_addition import BinaryAddition
from treering.tasks.formal.binary_multiplication import BinaryMultiplication
from treering.tasks.formal.bucket_sort import BucketSort
from treering.tasks.formal.compute_sqrt import ComputeSqrt
from treering.tasks.formal.cycle_navigation import CycleNavigation
from treering.tasks.formal.duplicate_string import DuplicateString
from treering.tasks.formal.even_pairs import EvenPairs
from treering.tasks.formal.missing_duplicate_string import MissingDuplicateString
from treering.tasks.formal.modular_arithmetic import ModularArithmetic
from treering.tasks.formal.modular_arithmetic_brackets import ModularArithmeticBrackets
from treering.tasks.formal.odds_first import OddsFirst
from treering.tasks.formal.parity_check import ParityCheck
from treering.tasks.formal.reverse_string import ReverseString
from treering.tasks.formal.solve_equation import SolveEquation
from treering.tasks.formal.stack_manipulation import StackManipulation
from treering.tasks.tracking.mqar import MQAR
from treering.tasks.tracking.streaming_parity import StreamingParity
from treering.tasks.tracking.word_problems import WordProblemA5, WordProblemS3, WordProblemS5

# In the order of the benchmark's paper: by level, easiest machine first.
_BENCHMARK: dict[str, GeneratedTask] = {
    task.name: task
    for task in (
        EvenPairs(),
        ModularArithmetic(),
        ParityCheck(),
        CycleNavigation(),
        StackManipulation(),
        ReverseString(),
        ModularArithmeticBrackets(),
        SolveEquation(),
        DuplicateString(),
        MissingDuplicateString(),
        OddsFirst(),
        BinaryAddition(),
        BinaryMultiplication(),
        ComputeSqrt(),
        BucketSort(),
    )
}
_TRACKING: dict[str, GeneratedTask] = {
    task.name: task
    for task in (StreamingParity(), WordProblemS3(), WordProblemA5(), WordProblemS5(), MQAR())
}
_TASKS = _BENCHMARK | _TRACKING


def names() -> tuple[str, ...]:
    """Names of the benchmark's tasks, by level of the Chomsky hierarchy."""
    return tuple(_BENCHMARK)


def all_names() -> tuple[str, ...]:
    """Names of all generated tasks: the benchmark's, then those of state tracking and recall.

    >>> all_names()[len(names()) :]
    ('streaming_parity', 'word_problem_s3', 'word_problem_a5', 'word_problem_s5', 'mqar')
    """
    return tuple(_TASKS)


def get(name: str) -> GeneratedTask:
    """The generated task of that name; UserError with the nearest names if there is none.

    >>> task = get("parity_check")
    >>> task.level, task.input_size, task.output_size, task.output_length(40), task.chance
    ('regular', 2, 2, 1, 0.5)
    """
    if name not in _TASKS:
        raise UserError(nearest(name, _TASKS, "task"))
    return _TASKS[name]
