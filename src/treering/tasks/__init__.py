"""Tasks to train and to compare on; importing this package needs torch and nothing else.

`treering.tasks.text` (the user's own files, R8) is a package of its own, imported on demand.
"""

from treering.tasks.abstract import Batch as Batch
from treering.tasks.abstract import DatasetTask as DatasetTask
from treering.tasks.abstract import GeneratedTask as GeneratedTask
from treering.tasks.abstract import Split as Split
from treering.tasks.abstract import Task as Task
