"""Claims of tree order, Lp penalties and nonlinear gates (Moattari, arXiv 2509.00087)."""

from treering.experiments.tree_order.gates import GATES
from treering.experiments.tree_order.inside import INSIDE
from treering.experiments.tree_order.longer import LONGER
from treering.experiments.tree_order.order import ORDER
from treering.experiments.tree_order.penalties import PENALTIES
from treering.experiments.tree_order.search import SEARCH
from treering.experiments.tree_order.together import TOGETHER

EXPERIMENTS = (ORDER, PENALTIES, SEARCH, GATES, TOGETHER, LONGER, INSIDE)
