"""nn.LSTM-like modules, one per cell. A new layer is one cell file and one line below."""

from treering.cells.gru import GRUCell
from treering.cells.lstm import LSTMCell
from treering.cells.min_gru import MinGRUCell
from treering.cells.min_lstm import MinLSTMCell
from treering.cells.nonlinear_gate_lstm import NonlinearGateLSTMCell
from treering.cells.pr_lstm import PRLSTMCell
from treering.cells.pr_rnn import PRRNNCell
from treering.cells.ql_gru import QLGRUCell
from treering.cells.ql_lstm import QLLSTMCell
from treering.cells.ql_rnn import QLRNNCell
from treering.cells.rnn import RNNCell
from treering.layers.recurrent import Recurrent
from treering.layers.registry import get, names, register
from treering.layers.reordered import Reordered

RNN = register("rnn", RNNCell)
GRU = register("gru", GRUCell)
LSTM = register("lstm", LSTMCell)
QLLSTM = register("ql-lstm", QLLSTMCell)
QLGRU = register("ql-gru", QLGRUCell)
QLRNN = register("ql-rnn", QLRNNCell)
PRLSTM = register("pr-lstm", PRLSTMCell)
PRRNN = register("pr-rnn", PRRNNCell)
NonlinearGateLSTM = register("nonlinear-gate-lstm", NonlinearGateLSTMCell)
MinGRU = register("min-gru", MinGRUCell)
MinLSTM = register("min-lstm", MinLSTMCell)

__all__ = [
    "GRU",
    "LSTM",
    "PRLSTM",
    "PRRNN",
    "QLGRU",
    "QLLSTM",
    "QLRNN",
    "RNN",
    "MinGRU",
    "MinLSTM",
    "NonlinearGateLSTM",
    "Recurrent",
    "Reordered",
    "get",
    "names",
    "register",
]
