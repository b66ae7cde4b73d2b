"""Where cells, schedules and kernels meet: bindings of kernels, and the choice between them."""

from treering.dispatch.choice import KERNELS as KERNELS
from treering.dispatch.choice import Choice as Choice
from treering.dispatch.choice import choose as choose
from treering.dispatch.choice import default_schedule as default_schedule
from treering.dispatch.choice import explain as explain
from treering.dispatch.choice import requested as requested
from treering.dispatch.choice import use_kernels as use_kernels
from treering.dispatch.kernel import Kernel as Kernel
from treering.dispatch.once import step_once as step_once
