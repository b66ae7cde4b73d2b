"""Which kernel runs a (cell, schedule) pair on this input, or why none does.

The schedule is the user's; a kernel only makes it faster. Every refusal has a reason, an explicit
request is obeyed or raises, and nothing falls back without saying so (`explain`).

Legend: B batch, T time, I input.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import peek_interpreter_stack
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from treering._errors import UserError, nearest
from treering._types import Hidden, HiddenCell, State, Weights
from treering.cells.abstract import AffineCell, Cell, MergeCell, StepCell
from treering.cells.gru import GRUCell
from treering.cells.lstm import GATES, LSTMCell
from treering.cells.nonlinear_gate_lstm import NonlinearGateLSTMCell
from treering.cells.pr_lstm import PRLSTMCell
from treering.cells.pr_rnn import PRRNNCell
from treering.cells.ql_lstm import QLLSTMCell
from treering.cells.regularised import RegularisedCell
from treering.cells.rnn import RNNCell
from treering.kernels import aten
from treering.kernels.native import library
from treering.kernels.native import step as native_step
from treering.kernels.native import tree as native_tree
from treering.schedules.abstract import Call, Schedule
from treering.schedules.scan import Scan
from treering.schedules.sequential import Sequential
from treering.schedules.states import last_valid, leaves_of
from treering.schedules.tree import Tree, program

CUDNN_STEPS = 65_535
REFERENCE = "reference"
AUTO = "auto"


@dataclass(frozen=True)
class Kernel:
    """A fast way to run one pair. `refuses` gives the reason why it cannot, or None."""

    name: str
    cell: type[Cell]
    schedule: type[Schedule]
    refuses: Callable[[Call], str | None]
    run: Callable[[Call], tuple[Any, State]]
    note: Callable[[Call], str] | None = None
    """What `explain` adds for this very call."""


@dataclass(frozen=True)
class Choice:
    """What will run, and one line saying why."""

    kernel: Kernel | None
    reason: str

    def line(self, schedule: Schedule) -> str:
        """What a person is told: `Sequential(): aten-lstm (its reason)`."""
        name = self.kernel.name if self.kernel else REFERENCE
        return f"{schedule}: {name} ({self.reason})"


def default_schedule(cell: Cell) -> Schedule:
    """The schedule a layer uses unless told otherwise: each kind of cell has its own."""
    for kind, schedule in ((MergeCell, Tree()), (AffineCell, Scan()), (StepCell, Sequential())):
        if isinstance(cell, kind):
            return schedule
    raise TypeError(f"{type(cell).__name__} is not one of the kinds of cell in cells.abstract")


def _aten_refuses(call: Call) -> str | None:
    if call.reset is not None:
        return "a reset mask needs the loop over time"
    if call.lengths is not None:
        # Measured: for packed input these operators are slower than the loop, at T = 512 by 20x.
        return "for sequences of different lengths the loop over time is faster"
    if call.wanted == "states":
        return "inner states are asked for, which PyTorch's operators keep to themselves"
    assert isinstance(call.cell, RegularisedCell)
    if call.cell.layer_norm or call.cell.zoneout or "noise_hidden" in call.weights:
        return "layer norm, zoneout and recurrent dropout need the loop over time"
    if isinstance(call.cell, LSTMCell) and call.cell.proj_size and call.x.device.type == "cpu":
        return "oneDNN has no projections, and without it PyTorch's operator is a loop as well"
    if torch.is_autocast_enabled(call.x.device.type):
        return "under autocast PyTorch's operators keep the state in low precision"
    if call.x.device.type == "cuda" and call.x.shape[0] > CUDNN_STEPS:
        # https://github.com/pytorch/pytorch/issues/133751
        return f"cuDNN stops at {CUDNN_STEPS} time steps"
    if not call.x.is_floating_point():
        return f"dtype {call.x.dtype} is not a floating-point type"
    if torch.compiler.is_compiling():
        return "torch.compile cannot trace PyTorch's recurrent operators"
    if _is_transformed(call):
        return "PyTorch's recurrent operators have no rule for vmap and forward mode"
    if call.x.shape[1] == 0:
        return "the batch is empty"
    return None


def _is_transformed(call: Call) -> bool:
    """Whether a torch.func transform is at work, or a dual number reaches the call."""
    # There is no public name for the stack of transforms.
    if peek_interpreter_stack() is not None:
        return True
    tensors = (call.x, *leaves_of(call.state or ()), *call.weights.values())
    return any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors)


def _aten_run(call: Call) -> tuple[Tensor, State]:
    cell, w, x = call.cell, call.weights, call.x
    assert isinstance(cell, LSTMCell | GRUCell | RNNCell)
    operators: dict[type[Cell], Any] = {LSTMCell: torch.lstm, GRUCell: torch.gru}
    by_name = {"tanh": torch.rnn_tanh, "relu": torch.rnn_relu}
    operator = by_name[cell.nonlinearity] if isinstance(cell, RNNCell) else operators[type(cell)]
    state = cell.initial_state(x.shape[1], x) if call.state is None else call.state
    outputs, last = aten.run(operator, x, state, [w[n] for n in cell.parameters(x.shape[2])])
    if call.wanted == "last":
        outputs = last_valid(outputs, call.lengths)
    return outputs, HiddenCell(*last) if isinstance(cell, LSTMCell) else Hidden(*last)


def _native_refuses(call: Call) -> str | None:
    """What no kernel of our own in C++ can do."""
    missing = library.missing()
    if missing is not None:
        return missing
    if call.x.device.type != "cpu":
        return f"it runs on the CPU, and the input is on {call.x.device.type}"
    if call.x.dtype != torch.float32:
        return f"it computes in float32, and the input is {call.x.dtype}"
    if torch.is_autocast_enabled("cpu"):
        return "under autocast products run in low precision, which it does not"
    if _is_transformed(call):
        return "it has no rule for vmap and forward mode"
    if _get_current_dispatch_mode_stack():
        return "a mode that counts or replaces PyTorch's operators would not see it"
    if call.x.shape[1] == 0:
        return "the batch is empty"
    return None


FEWEST_TOKENS = 16
"""Below this many, writing a tree's merges down costs more than running them faster saves."""


def _tree_refuses(call: Call) -> str | None:
    assert isinstance(call.schedule, Tree)
    if call.schedule.group is not None:
        return "a tree over several processes exchanges states between its rounds"
    if call.x.shape[0] * call.x.shape[1] < FEWEST_TOKENS:
        return f"for fewer than {FEWEST_TOKENS} tokens its preparation takes longer than it saves"
    return None


def _native_tree_refuses(call: Call) -> str | None:
    return _native_refuses(call) or _tree_refuses(call)


def _shared_refuses(call: Call) -> str | None:
    reason = _tree_refuses(call)
    if reason is None and _is_transformed(call):
        reason = "under vmap and forward mode values cannot be compared"
    if reason is None and _leaves(call) is None:
        reason = "the tokens differ too much, or need gradients of their own, to merge equal ones"
    return reason


def _leaves(call: Call) -> tuple[Tensor, Tensor] | None:
    """Equal tokens: numbers (T, B) and places, if blocks of them are to be merged once.

    Where the input wants a gradient every token's is another, so nothing is shared.
    """
    if call.x.requires_grad and torch.is_grad_enabled():
        return None
    return program.equal_tokens(call.x)


def _tree_run(call: Call, native: bool) -> tuple[Any, State]:
    cell, w = call.cell, call.weights
    assert isinstance(cell, MergeCell)
    leaves = _leaves(call)
    shared = leaves is not None
    if leaves is None and call.lengths is not None:
        leaves = program.tokens_alone(call.x.shape[0], call.lengths)
    numbers, places = (None, None) if leaves is None else leaves
    merges = program.program_of(call, numbers, shared)
    x = call.x.flatten(0, 1)
    x = x if places is None else x.index_select(0, places)
    carried = program.carried_rows_of(call)
    if not native:
        return program.answer(call, merges, program.execute(cell, w, x, carried, merges))
    parts = ["leaf", "merge", *(f"refine{r}" for r in range(len(w) // (1 + cell.bias) - 2))]
    names = [f"{kind}_{part}" for part in parts for kind in ("weight", "bias")]

    def reference(x: Tensor, carried: Any, given: Any) -> tuple[Tensor, Tensor]:
        weights = {n: t for n, t in zip(names, given, strict=True) if t is not None}
        state = None if carried is None else HiddenCell(*carried)
        h, c = program.execute(cell, weights, x, state, merges)
        return h, c

    given = [w.get(name) for name in names]
    rounds = native_tree.Merges(
        merges.rows, merges.left, merges.right, merges.round_end, lambda: merges.uses
    )
    pool = HiddenCell(*native_tree.merge_all(x, carried, given, rounds, reference))
    return program.answer(call, merges, pool)


def _tree_note(call: Call) -> str:
    leaves = _leaves(call)
    if leaves is None:
        return ""
    shared, alone = (
        program.program_of(call, *given).merges for given in ((leaves[0], True), (None, False))
    )
    return f", equal blocks merged once: {shared:,} of {alone:,} merges"


def _native_step_refuses(call: Call) -> str | None:
    reason = _native_refuses(call)
    cell = call.cell
    assert isinstance(cell, RegularisedCell)
    if reason is not None:
        return reason
    if any(w.dtype != torch.float32 or w.device != call.x.device for w in call.weights.values()):
        return "weights and input differ in dtype or device"
    if call.wanted == "states":
        return "inner states are asked for, which it does not keep"
    if "noise_hidden" in call.weights:
        return "recurrent dropout needs the loop over time"
    return _needs_the_loop(cell)


def _needs_the_loop(cell: RegularisedCell) -> str | None:
    """Options that the kernel of a step cell does not have."""
    if cell.layer_norm or cell.zoneout:
        return "layer norm and zoneout need the loop over time"
    if isinstance(cell, LSTMCell) and cell.proj_size:
        return "projections need the loop over time"
    if isinstance(cell, QLLSTMCell) and (cell.skip == "input" or cell.block_size):
        return "a skip that looks at the input or at blocks needs the loop over time"
    return None


_FORMS: dict[type[Cell], Callable[[Any], native_step.Form]] = {
    LSTMCell: lambda cell: native_step.lstm(),
    GRUCell: lambda cell: native_step.gru(),
    RNNCell: lambda cell: native_step.rnn(cell.nonlinearity),
    QLLSTMCell: lambda cell: native_step.ql_lstm(
        cell.shared_blocks, cell.skip, cell.alpha, cell.bounded
    ),
    NonlinearGateLSTMCell: lambda cell: native_step.nonlinear_gate_lstm(
        [GATES.index(gate) for gate in cell.gates]
    ),
}


def _native_step_run(call: Call) -> tuple[Tensor, State]:
    cell = call.cell
    assert isinstance(cell, RegularisedCell)
    state = cell.initial_state(call.x.shape[1], call.x) if call.state is None else call.state

    def reference(x: Tensor, given: Any, weights: Weights) -> tuple[Tensor, Any]:
        again = replace(call, x=x, state=type(state)(*given), weights=weights, wanted="all")
        return Sequential().run(again)

    form = _FORMS[type(cell)](cell)
    outputs, last = native_step.run(
        form, call.x, state, call.weights, call.lengths, call.reset, reference
    )
    return (last[0] if call.wanted == "last" else outputs), type(state)(*last)


KERNELS: tuple[Kernel, ...] = (
    *(
        Kernel(f"aten-{name}", cell, Sequential, _aten_refuses, _aten_run)
        for name, cell in (("lstm", LSTMCell), ("gru", GRUCell), ("rnn", RNNCell))
    ),
    *(
        Kernel(f"native-{name}", cell, Sequential, _native_step_refuses, _native_step_run)
        for name, cell in (
            ("lstm", LSTMCell),
            ("gru", GRUCell),
            ("rnn", RNNCell),
            ("ql-lstm", QLLSTMCell),
            ("nonlinear-gate-lstm", NonlinearGateLSTMCell),
        )
    ),
    Kernel(
        "native-pr-lstm",
        PRLSTMCell,
        Tree,
        _native_tree_refuses,
        partial(_tree_run, native=True),
        _tree_note,
    ),
    *(
        Kernel(
            f"shared-{name}",
            cell,
            Tree,
            _shared_refuses,
            partial(_tree_run, native=False),
            _tree_note,
        )
        for name, cell in (("pr-lstm", PRLSTMCell), ("pr-rnn", PRRNNCell))
    ),
)


@lru_cache(maxsize=256)
def _streaming(cell: Cell) -> native_step.Form | None:
    """How a single token of this cell runs in C++; None where its options need the loop."""
    if not isinstance(cell, RegularisedCell) or _needs_the_loop(cell) is not None:
        return None
    return _FORMS[type(cell)](cell) if type(cell) in _FORMS else None


@lru_cache(maxsize=256)
def _shapes(cell: Cell, input_size: int) -> dict[str, tuple[int, ...]]:
    return {name: spec.shape for name, spec in cell.parameters(input_size).items()}


MOST_ROWS_AT_ONCE = 16
"""Above this many sequences a token is worth packed weights and several threads."""


def step_once(
    cell: Cell, weights: Sequence[Weights], x: Tensor, state: State
) -> tuple[Tensor, State] | None:
    """One token x (B, I) through the layers of `weights`, without the way through `unroll`.

    state: fields (L, B, H). None where the token must take that way: every doubt leads to it.
    """
    form = _streaming(cell)
    if (
        form is None
        or torch.is_grad_enabled()
        or torch.compiler.is_compiling()
        or torch.is_autocast_enabled("cpu")
        or peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
        or torch._C._get_tracing_state() is not None
        or _get_current_dispatch_mode_stack()
        or (_requested.get() or os.environ.get("TREERING_KERNELS") or AUTO) != AUTO
        or len(state) != 1 + form.memory
    ):
        return None
    loaded = library.at_hand()
    if loaded is None:
        return None
    L, H = len(weights), cell.hidden_size
    B, I = x.shape  # noqa: E741
    tensors = (x, *state, *(weight for of_layer in weights for weight in of_layer.values()))
    for tensor in tensors:
        if (
            type(tensor) not in _PLAIN
            or tensor.dtype is not torch.float32
            or not (tensor.is_cpu and tensor.is_contiguous())
            or tensor.is_neg()
        ):
            return None
    if not 0 < B <= MOST_ROWS_AT_ONCE or any(field.shape != (L, B, H) for field in state):
        return None
    for level, of_layer in enumerate(weights):
        expected = _shapes(cell, H if level else I)
        if any(weight.shape != expected[name] for name, weight in of_layer.items()):
            return None
    y, last = native_step.once(loaded.tr_step_once, form, x, state, weights)
    return y, HiddenCell(*last) if form.memory else Hidden(*last)


_PLAIN = (Tensor, torch.nn.Parameter)

_requested: ContextVar[str | None] = ContextVar("treering_kernels", default=None)
_listener: ContextVar[Callable[[str], None] | None] = ContextVar("treering_listener", default=None)


@contextmanager
def use_kernels(name: str) -> Iterator[None]:
    """Within the block, run `name`: "auto", "reference" or a kernel that must then be able to run.

    >>> with use_kernels("reference"):
    ...     pass

    Errors: ValueError for an unknown name; a kernel that cannot run raises at the call.
    """
    _check_name(name)
    token = _requested.set(name)
    try:
        yield
    finally:
        _requested.reset(token)


def _check_name(name: str) -> None:
    known = [AUTO, REFERENCE, *(kernel.name for kernel in KERNELS)]
    if name not in known:
        raise UserError(nearest(name, known, "kernel"))


def requested() -> str:
    """What `use_kernels` or the environment variable TREERING_KERNELS asks for."""
    name = _requested.get() or os.environ.get("TREERING_KERNELS") or AUTO
    _check_name(name)
    return name


def choose(schedule: Schedule, call: Call) -> Choice:
    """The kernel for this call, or the reference with the reason."""
    choice = _choose(schedule, call, requested())
    listener = _listener.get()
    if listener is not None:
        kernel = choice.kernel
        if kernel is not None and kernel.note is not None:
            choice = Choice(kernel, choice.reason + kernel.note(call))
        listener(choice.line(schedule))
    return choice


def _choose(schedule: Schedule, call: Call, name: str) -> Choice:
    if name == REFERENCE:
        return Choice(None, "TREERING_KERNELS or use_kernels asks for the reference")
    pair = f"{type(call.cell).__name__} under {type(schedule).__name__}"
    candidates = [
        kernel
        for kernel in KERNELS
        if type(call.cell) is kernel.cell and type(schedule) is kernel.schedule
    ]
    if name != AUTO:
        candidates = [kernel for kernel in candidates if kernel.name == name]
        if not candidates:
            raise UserError(f"kernel {name!r} was asked for, but it does not run {pair}")
    refusals = []
    for kernel in candidates:
        reason = kernel.refuses(call)
        if reason is None:
            return Choice(kernel, f"{kernel.name} runs {pair}")
        refusals.append(f"{kernel.name}: {reason}")
    if name != AUTO:
        raise UserError(f"kernel {name!r} was asked for, but cannot run: {'; '.join(refusals)}")
    if not refusals:
        return Choice(None, f"no kernel is written for {pair}; plain PyTorch operators run it")
    return Choice(None, "; ".join(refusals))


@dataclass(frozen=True, repr=False)
class Explanation:
    """What would run, one line per layer and direction; shows itself as text."""

    lines: tuple[str, ...]

    def __repr__(self) -> str:
        return "\n".join(self.lines)


def explain(layer: Any, x: Any, lengths: Tensor | None = None) -> Explanation:
    """Which schedule and kernel would run `layer(x)`, and why: an Explanation, printable.

    layer: a treering layer, alone or in `Reordered`. x: its input, (T, B, I) or (B, T, I) with
    `batch_first`. The call runs the layer once, on x, without gradients; dropout's random numbers
    are given back.
    """
    lines: list[str] = []
    token = _listener.set(lines.append)
    devices = [x.data.device] if x.is_cuda else []
    try:
        with torch.no_grad(), torch.random.fork_rng(devices):
            layer(x, lengths=lengths)
    finally:
        _listener.reset(token)
    return Explanation(tuple(lines))
