"""Time and memory against length, beside an LSTM run by compiled kernels."""

from treering.experiments.abstract import Claim, Experiment
from treering.experiments.judging import crosses, grows_like
from treering.experiments.pr_lstm.protocol import SOURCE

TIME = Experiment(
    name="pr-lstm/time",
    title="Time and memory against length",
    source=f"{SOURCE}, inference time against length",
    claims=(
        Claim(
            "Inference takes no longer than an LSTM's on long sequences",
            "faster",
            crosses("nn.LSTM", "infer"),
        ),
        Claim(
            "A training step takes no longer than an LSTM's on long sequences",
            "faster",
            crosses("nn.LSTM", "train"),
        ),
        *(
            Claim(
                f"Time and memory {what} do not grow with the square of the length, as attention's",
                "avoids the square",
                grows_like("pr-lstm", mode, 1.2),
            )
            for mode, what in (("infer", "of inference"), ("train", "in training"))
        ),
    ),
    cpu=(),
    paper=(),
    benches=("crossover-nn-lstm-*-b1-*", "growth-pr-lstm-*"),
    reading="One sequence, PyTorch's own LSTM beside; the paper times its LSTM uncompiled.",
)
