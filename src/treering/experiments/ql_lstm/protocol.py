"""What the QL-LSTM experiments share."""

SOURCE = "arXiv 2512.06582"
BIDIRECTIONAL = "lstm:bidirectional=true"
FOUR = ("lstm", "gru", BIDIRECTIONAL, "ql-lstm")
BOUNDED = "ql-lstm:bounded=true"
"""The paper's sum of weights on the old state, f + alpha, may pass 1; here it does not."""
PSUG = "ql-lstm:skip=none"
"""Unified gates alone."""
HGR_ASC = "ql-lstm:bounded=true:shared_blocks=4"
"""The additive skip alone: every gate has its own map, as in an LSTM."""
READING = (
    "The paper's settings are not public to us: sizes, vocabulary and epochs are ours, equal for"
    " all layers and tuned for none. Tokens are words and signs; longer reviews are cut."
)
