"""Time and memory against length, beside an LSTM run by compiled kernels."""

from treering.experiments.abstract import Claim, Experiment
from treering.experiments.judging import crosses, grows_more_slowly
from treering.experiments.pr_lstm.protocol import SOURCE

MODES = (("infer", "inference"), ("train", "a training step"))

TIME = Experiment(
    name="pr-lstm/time",
    title="Time and memory against length",
    source=f"{SOURCE}, inference time against length",
    claims=(
        *(
            Claim(
                "PR-LSTM takes no longer than an LSTM on long sequences",
                "faster",
                crosses("nn.LSTM", mode),
                where=what,
            )
            for mode, what in MODES
        ),
        *(
            Claim(
                f"PR-LSTM's {cost} grows more slowly with length than a transformer's",
                "avoids the square",
                grows_more_slowly("pr-lstm", "transformer", mode, cost),
                where=what,
            )
            for cost in ("time", "memory")
            for mode, what in MODES
        ),
    ),
    cpu=(),
    paper=(),
    benches=("crossover-nn-lstm-*-b1-*", "growth-pr-lstm-*", "growth-transformer-*"),
    reading="One sequence; beside it PyTorch's own LSTM, and its fused attention, which takes the"
    " square of the length in time and not in memory. The paper's LSTM is not compiled. A tree has"
    " work for every core where a loop has it for one: on another number of threads the answers may"
    " be others.",
)
