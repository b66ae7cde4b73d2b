"""Claims of PR-LSTM (Gaudreault and Mao, arXiv 2605.17108) and what its referee asked."""

from treering.experiments.pr_lstm.ablation import ABLATION
from treering.experiments.pr_lstm.brackets import BRACKETS
from treering.experiments.pr_lstm.regular import REGULAR
from treering.experiments.pr_lstm.table_2 import TABLE_2

EXPERIMENTS = (TABLE_2, REGULAR, ABLATION, BRACKETS)
