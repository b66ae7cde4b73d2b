"""Training: one loop, its settings, its checkpoints, and the evaluation of what was learnt."""

from treering.training.checkpoint import restore as restore
from treering.training.evaluate import evaluate_lengths as evaluate_lengths
from treering.training.evaluate import evaluate_split as evaluate_split
from treering.training.evaluate import evaluate_stream as evaluate_stream
from treering.training.evaluate import score as score
from treering.training.interrupt import Interrupted as Interrupted
from treering.training.loop import DivergenceError as DivergenceError
from treering.training.loop import fit as fit
from treering.training.progress import Progress as Progress
from treering.training.seeds import run_id as run_id
from treering.training.settings import Curriculum as Curriculum
from treering.training.settings import LengthGrid as LengthGrid
from treering.training.settings import Settings as Settings
