"""Text classification: `load_file` for the user's own CSV, TSV or JSONL, `load_r8` for R8."""

from treering.tasks.text.dataset import TextTask as TextTask
from treering.tasks.text.load import load_file as load_file
from treering.tasks.text.r8 import load_r8 as load_r8
from treering.tasks.text.vocabulary import Vocabulary as Vocabulary
