"""Claims of PR-LSTM (Gaudreault and Mao, arXiv 2605.17108), its referee's questions, and ours."""

from treering.experiments.pr_lstm.ablation import ABLATION
from treering.experiments.pr_lstm.brackets import BRACKETS
from treering.experiments.pr_lstm.generalise import GENERALISE
from treering.experiments.pr_lstm.listops import LISTOPS
from treering.experiments.pr_lstm.logic import LOGIC
from treering.experiments.pr_lstm.long import LONG
from treering.experiments.pr_lstm.parse import PARSE
from treering.experiments.pr_lstm.probes import PROBES
from treering.experiments.pr_lstm.regular import REGULAR
from treering.experiments.pr_lstm.table_2 import TABLE_2
from treering.experiments.pr_lstm.time import TIME
from treering.experiments.pr_lstm.tracking import TRACKING

EXPERIMENTS = (
    TABLE_2,
    REGULAR,
    ABLATION,
    BRACKETS,
    PROBES,
    TIME,
    GENERALISE,
    LONG,
    TRACKING,
    LISTOPS,
    PARSE,
    LOGIC,
)
