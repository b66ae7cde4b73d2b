"""Does the additive skip keep more of what was read long ago?"""

from treering.experiments.abstract import Claim, Experiment, Grid
from treering.experiments.judging import measures_more
from treering.experiments.measures import gradient_reach, similarity_at
from treering.experiments.ql_lstm.protocol import BOUNDED, HGR_ASC, PSUG, READING, SOURCE

LAYERS = ("lstm", "gru", BOUNDED, PSUG, HGR_ASC)
SIMILARITY, REACH = "cosine of states 64 tokens apart", "log10 of early over last gradient"

RETENTION = Experiment(
    name="ql-lstm/retention",
    title="How long states and gradients last",
    source=SOURCE,
    claims=(
        Claim(
            "QL-LSTM's states 64 tokens apart are more alike than an LSTM's",
            "better retention",
            measures_more("imdb", BOUNDED, "lstm", SIMILARITY),
        ),
        Claim(
            "More of the gradient reaches the first tokens in QL-LSTM than in an LSTM",
            "better flow",
            measures_more("imdb", BOUNDED, "lstm", REACH),
        ),
        Claim(
            "It is the additive skip that lets more of the gradient through",
            "better flow",
            measures_more("imdb", BOUNDED, PSUG, REACH),
        ),
    ),
    cpu=(Grid("imdb", LAYERS, 3, {"max_tokens": 500}),),
    paper=(Grid("imdb", LAYERS, 10, {"max_tokens": 500, "epochs": 10}),),
    measures={SIMILARITY: similarity_at(64), REACH: gradient_reach},
    reading=READING + " QL-LSTM in its bounded form, which can be trained at this length. Measured"
    " on 256 reviews of the test set.",
)
