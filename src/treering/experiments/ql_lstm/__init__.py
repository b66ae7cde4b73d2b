"""Claims of QL-LSTM (Nti, arXiv 2512.06582) and its future work."""

from treering.experiments.ql_lstm.alpha import ALPHA
from treering.experiments.ql_lstm.imdb import IMDB
from treering.experiments.ql_lstm.lengths import EXTENDED
from treering.experiments.ql_lstm.retention import RETENTION
from treering.experiments.ql_lstm.sharing import SHARING
from treering.experiments.ql_lstm.wikitext_2 import WIKITEXT_2

EXPERIMENTS = (IMDB, EXTENDED, RETENTION, ALPHA, SHARING, WIKITEXT_2)
