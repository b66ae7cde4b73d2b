"""LSTM successors for PyTorch: a recurrence is written once and run as a loop, a tree or a scan."""

from treering import export as export
from treering import layers as layers
from treering import models as models
from treering import tasks as tasks
from treering._types import detach as detach
from treering.dispatch import explain as explain
from treering.dispatch import use_kernels as use_kernels
from treering.layers import GRU as GRU
from treering.layers import LSTM as LSTM
from treering.layers import PRLSTM as PRLSTM
from treering.layers import PRRNN as PRRNN
from treering.layers import QLGRU as QLGRU
from treering.layers import QLLSTM as QLLSTM
from treering.layers import QLRNN as QLRNN
from treering.layers import RNN as RNN
from treering.layers import MinGRU as MinGRU
from treering.layers import MinLSTM as MinLSTM
from treering.layers import NonlinearGateLSTM as NonlinearGateLSTM
from treering.layers import Reordered as Reordered
from treering.penalties import AssociativityPenalty as AssociativityPenalty
from treering.penalties import LpPenalty as LpPenalty
from treering.schedules import orders as orders
from treering.schedules.scan import Scan as Scan
from treering.schedules.sequential import Sequential as Sequential
from treering.schedules.tree import Tree as Tree
from treering.unroll import unroll as unroll
