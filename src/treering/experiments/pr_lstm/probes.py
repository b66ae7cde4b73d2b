"""What the referee asked: is the automaton's state in the states, and are they like an LSTM's?"""

from dataclasses import replace

from treering.experiments.abstract import OPEN, Claim, Experiment, over
from treering.experiments.judging import measures_at_least, measures_more
from treering.experiments.measures import alike, probed_beyond
from treering.experiments.pr_lstm.protocol import PAPER, PAPER_SEEDS, SOURCE
from treering.experiments.pr_lstm.regular import LAYERS, cpu

TARGETS = {
    "parity_check": "parity of the ones so far",
    "cycle_navigation": "place reached so far",
}
CKA = "linear CKA with the LSTM of the same seed"


def _probe(task: str) -> str:
    return f"linear probe for the {TARGETS[task]}, at longer prefixes"


PROBES = Experiment(
    name="pr-lstm/probes",
    title="What a linear probe reads",
    source=f"{SOURCE}; asked in its review, open",
    claims=(
        *(
            Claim(
                "The automaton's state can be read from PR-LSTM's, at lengths 41..80",
                OPEN,
                measures_at_least(task, "pr-lstm", _probe(task), 0.99),
                where=task,
            )
            for task in TARGETS
        ),
        *(
            Claim(
                "It can be read better than from an LSTM's",
                OPEN,
                measures_more(task, "pr-lstm", "lstm", _probe(task)),
                where=task,
            )
            for task in TARGETS
        ),
        *(
            Claim(
                "PR-LSTM's states are like an LSTM's: CKA of at least 0.9",
                OPEN,
                measures_at_least(task, "pr-lstm", CKA, 0.9),
                where=task,
            )
            for task in TARGETS
        ),
    ),
    # Similarity is between runs of one grid, so that both have the same weight decay: none.
    cpu=tuple(replace(cpu(task, 5, "lstm"), layers=LAYERS) for task in TARGETS),
    paper=tuple(over(TARGETS, LAYERS, PAPER_SEEDS, **PAPER)),
    measures={**{_probe(task): probed_beyond(what) for task, what in TARGETS.items()}}
    | {CKA: alike("lstm")},
    reading="Similarity is linear CKA (Kornblith et al. 2019) on 256 sequences. On the budget `cpu`"
    " neither layer has weight decay.",
)
