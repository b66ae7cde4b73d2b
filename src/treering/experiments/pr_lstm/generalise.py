"""Our addition: what makes PR-LSTM hold for sequences longer than it was trained on?"""

from dataclasses import replace

from treering.experiments.abstract import OPEN, Claim, Experiment, Grid
from treering.experiments.judging import gains
from treering.experiments.pr_lstm.protocol import PAPER, PAPER_SEEDS
from treering.experiments.pr_lstm.regular import cpu

# Two cores train it in minutes, and PR-LSTM alone is not at its ceiling as on parity.
TASK = "cycle_navigation"
WAYS = {
    "An associativity penalty": "pr-lstm+associativity:weight=0.01",
    "A bracket drawn at every step of training": "pr-lstm:schedule=random-in-training",
    "A bracket over pairs drawn at every other step": "pr-lstm:schedule=varied-in-training",
}
LAYERS = ("pr-lstm", *WAYS.values())

GENERALISE = Experiment(
    name="pr-lstm/generalise",
    title="Longer than trained on",
    source="our addition",
    claims=tuple(
        Claim(f"{way} improves PR-LSTM at 41..500", OPEN, gains(TASK, layer, "pr-lstm"))
        for way, layer in WAYS.items()
    ),
    cpu=(replace(cpu(TASK, 5, "pr-lstm", 0.0), layers=LAYERS, variant=""),),
    paper=(Grid(TASK, LAYERS, PAPER_SEEDS, PAPER),),
    reading="On cycle navigation, each way alone, without weight decay, a fourth way, of which"
    " pr-lstm/regular tells; tests are under the balanced tree.",
)
