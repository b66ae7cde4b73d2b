"""Text classification: the user's own file, or R8.

>>> from treering.tasks import text
>>> task = text.load_file("reviews.csv", "review", "stars", max_tokens=64)  # doctest: +SKIP
"""

from treering.tasks.text.dataset import TextTask as TextTask
from treering.tasks.text.load import load_file as load_file
from treering.tasks.text.r8 import load_r8 as load_r8
from treering.tasks.text.vocabulary import Vocabulary as Vocabulary
