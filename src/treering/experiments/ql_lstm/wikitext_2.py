"""A language model of WikiText-2, which the paper leaves to others."""

from treering.experiments.abstract import OPEN, Claim, Experiment, Grid
from treering.experiments.judging import gains, keeps_up
from treering.experiments.ql_lstm.protocol import BOUNDED, PSUG, SOURCE

LAYERS = ("lstm", "ql-lstm", BOUNDED, "pr-lstm")

WIKITEXT_2 = Experiment(
    name="ql-lstm/wikitext-2",
    title="WikiText-2, word by word",
    source=f"{SOURCE}, future work",
    claims=(
        *(
            Claim(
                f"{what}'s perplexity is within 5 of an LSTM's",
                OPEN,
                keeps_up("wikitext2", layer, "lstm", 5.0),
            )
            for layer, what in (("ql-lstm", "QL-LSTM"), (BOUNDED, "Bounded QL-LSTM"))
        ),
        Claim(
            "PR-LSTM's perplexity is lower than an LSTM's",
            OPEN,
            gains("wikitext2", "pr-lstm", "lstm"),
        ),
    ),
    # The head's products, 33,278 words wide, are most of it, and faster in bfloat16.
    cpu=(Grid("wikitext2", LAYERS, 1, {"epochs": 1, "precision": "bfloat16"}),),
    paper=(
        Grid(
            "wikitext2",
            (*LAYERS, PSUG, "gru"),
            5,
            {"epochs": 40, "hidden_size": 650, "embedding_size": 650},
        ),
    ),
    reading="Sizes of the budget `paper` are those of Zaremba et al. (2014), medium; no dropout."
    " The state is carried from piece to piece through the whole text, and with it what the skip"
    " as published adds up without a bound.",
)
