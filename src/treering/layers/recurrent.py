"""The nn.LSTM-like module: parameters, layers x directions, and nothing that loops over time.

Legend: B batch, T time, I input, O output, L layers, D directions.
"""

import dataclasses
import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
from torch.utils.hooks import RemovableHandle

from treering._errors import ShapeError, UserError, nearest
from treering._types import Inner, State, map_tensors
from treering.cells.abstract import AffineCell, Cell, StepCell
from treering.layers.arguments import (
    check_dropout,
    check_flags,
    check_hidden,
    check_input,
    check_sizes,
    choose_state,
    map_state,
    refuse_lengths,
    refuse_levels,
    refuse_reorder,
    split_state,
    starts_anew,
)
from treering.schedules.abstract import Schedule
from treering.unroll import check_lengths, past_end, step_once, unroll

SUFFIXES = ("", "_reverse")
Asked = Literal["all", "last"]
InputHook = Callable[[Tensor, Tensor | None], None]
"""Called with x (T, B, I) and lengths, (B,) or None, before a layer reads them."""


class Recurrent(nn.Module):
    """A cell unrolled along time, in `num_layers` layers and one or two directions.

    Arguments, shapes, layouts and parameter names are nn.LSTM's:

        y, state = layer(x, state=None, lengths=None, reset=None)
        y, state, inner = layer(x, return_states=True)
        y_t, state = layer.step(x_t, state)
        last = layer.reduce(x, lengths=None)

    x: (T, B, I), (B, T, I) with `batch_first`, (T, I) unbatched, or a PackedSequence.
    y: the same with D*O in place of I; zero beyond each sequence's length.
    state: a NamedTuple; every tensor in it has a first axis (L*D), layer-major, then direction,
        then the batch, also with `batch_first`. For an LSTM it is (h_n, c_n).
    lengths: (B,) integers, for padded input; what lies beyond is never read.
    reset: (B, T) bool with `batch_first`, else (T, B); True starts a sequence anew just before
        that token. Not for bidirectional layers.
    ranks: laid out as reset, keyword only; the tree of each sequence under `Tree("given")`.
    inner: the cell's states and its gates at every token, by layer and direction as in the state:
        `inner.state.c` and `inner.gates["f"]` are (L*D, T, B, H), (L*D, B, T, H) with
        `batch_first`. For packed input they are padded.

    Keyword options are the cell's own; `schedule` is how it runs along time (None: the default of
    its kind). It does not subclass nn.LSTM, so `isinstance` tests against that fail. Errors are
    ValueError or TypeError; those for which nn.LSTM raises RuntimeError are both.
    """

    cell_type: ClassVar[type[Cell]]
    name: ClassVar[str]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        schedule: Schedule | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        check_sizes(input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        check_flags(bias=bias, batch_first=batch_first, bidirectional=bidirectional)
        check_dropout(dropout, num_layers)
        if bidirectional and schedule is not None:
            refuse_reorder(schedule, "bidirectional=True")
        if num_layers > 1 and schedule is not None:
            refuse_levels(schedule, num_layers)
        known = self.cell_options()
        if proj_size and "proj_size" not in known:
            # nn.GRU's words.
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        if proj_size:
            options = {"proj_size": proj_size, **options}
        for option in options:
            if option not in known:
                raise TypeError(nearest(option, known, f"option of {type(self).__name__}"))
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        self.schedule = schedule
        self.options = options
        self.cell = self.cell_type(hidden_size, bias=bias, **options)
        self._input_hooks: OrderedDict[int, InputHook] = OrderedDict()
        self._names = tuple(self.cell.parameters(input_size))
        for name, shape in self._parameter_shapes().items():
            self.register_parameter(
                name, nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
            )
        self.reset_parameters()

    @classmethod
    def cell_options(cls) -> dict[str, Any]:
        """The cell's own options and their defaults."""
        fields = dataclasses.fields(cls.cell_type)
        return {f.name: f.default for f in fields if f.name not in ("hidden_size", "bias")}

    @classmethod
    def signature(cls) -> inspect.Signature:
        """The constructor's signature with the cell's options spelled out."""
        known = cls.cell_options()
        parameters = list(inspect.signature(Recurrent.__init__).parameters.values())[1:-1]
        if "proj_size" not in known:
            parameters = [p for p in parameters if p.name != "proj_size"]
        place = next(i for i, p in enumerate(parameters) if p.name == "schedule")
        options = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
            for name, default in known.items()
            if name != "proj_size"
        ]
        return inspect.Signature(parameters[:place] + options + parameters[place:])

    @classmethod
    def from_torch(cls, module: nn.RNNBase) -> Self:
        """A layer with the sizes, options and a copy of the parameters of PyTorch's own module.

        Errors: TypeError if this layer has no counterpart in torch.nn or `module` is not it.
        """
        expected = cls.cell_type.torch_equivalent
        if expected is None or type(module) is not expected:
            wanted = f"a torch.nn.{expected.__name__}" if expected else "no module of torch.nn"
            raise TypeError(
                f"{cls.__name__}.from_torch takes {wanted}, got {type(module).__name__}"
            )
        weight = next(module.parameters())
        options = {"nonlinearity": module.nonlinearity} if isinstance(module, nn.RNN) else {}
        layer = cls(
            module.input_size,
            module.hidden_size,
            module.num_layers,
            module.bias,
            module.batch_first,
            module.dropout,
            module.bidirectional,
            module.proj_size,
            device=weight.device,
            dtype=weight.dtype,
            **options,
        )
        layer.load_state_dict(module.state_dict())
        return layer.train(module.training)

    @property
    def num_directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def output_size(self) -> int:
        """Width of the layer's output, D*O."""
        return self.num_directions * self.cell.output_size

    @property
    def reads_ranks(self) -> bool:
        """Whether every call must bring the trees of its sequences, as `ranks`."""
        return self.schedule is not None and self.schedule.reads_ranks

    def _parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes = {}
        for level in range(self.num_layers):
            width = self.input_size if level == 0 else self.output_size
            for suffix in SUFFIXES[: self.num_directions]:
                for name, spec in self.cell.parameters(width).items():
                    shapes[f"{name}_l{level}{suffix}"] = spec.shape
        return shapes

    def weights(self, level: int, direction: int = 0) -> dict[str, Tensor]:
        """The cell's weights of one layer and direction, under the cell's own names."""
        suffix = SUFFIXES[direction]
        return {name: getattr(self, f"{name}_l{level}{suffix}") for name in self._names}

    @property
    def all_weights(self) -> list[list[nn.Parameter]]:
        """The parameters of each layer and direction, as nn.LSTM lists them."""
        names = self.cell.parameters(self.input_size)
        return [
            [getattr(self, f"{name}_l{level}{suffix}") for name in names]
            for level in range(self.num_layers)
            for suffix in SUFFIXES[: self.num_directions]
        ]

    def register_input_hook(self, hook: InputHook) -> RemovableHandle:
        """Call `hook(x, lengths)` at the start of every `forward` and `reduce`.

        x is always (T, B, I), padded where it came packed. Unlike nn.Module's forward hooks, which
        `reduce` passes by. Not called by `step`. Returns a handle with `remove()`.
        """
        handle = RemovableHandle(self._input_hooks)
        self._input_hooks[handle.id] = hook
        return handle

    def flatten_parameters(self) -> None:
        """Nothing: for code that calls it on nn.LSTM. Parameters here are ordinary ones."""

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw all parameters anew from the cell's initial distribution."""
        for level in range(self.num_layers):
            for direction in range(self.num_directions):
                self.cell.initialise(self.weights(level, direction))

    def forward(
        self,
        input: Tensor | PackedSequence,
        state: State | Tensor | None = None,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
        *,
        hx: State | Tensor | None = None,
        return_states: bool = False,
        ranks: Tensor | None = None,
    ) -> Any:
        """Outputs at every position and the state after each sequence's last token.

        hx: nn.LSTM's name for `state`. return_states: also return the inner states and gates.
        """
        state = choose_state(state, hx)
        if isinstance(input, PackedSequence):
            refuse_lengths(lengths)
            return self._forward_packed(input, state, reset, return_states, ranks)
        x, state, batched = self._enter(input, state)
        self._show(x, lengths)
        seen: list[Inner] | None = [] if return_states else None
        reset, ranks = (self._time_first(given, batched) for given in (reset, ranks))
        outputs, last = self._run(x, state, lengths, reset, "all", seen, ranks)
        outputs, last = self._leave(outputs, last, batched)
        return (outputs, last) if seen is None else (outputs, last, self._seen(seen, batched))

    def step(self, x_t: Tensor, state: State | Tensor | None = None) -> tuple[Tensor, Any]:
        """One token: x_t (B, I) or (I,) -> output (B, O) or (O,) and the state to go on with.

        The same numbers as the whole-sequence call, for any way of cutting the sequence.
        Errors: ValueError for a bidirectional layer, whose second direction needs the end first.
        """
        if self.bidirectional:
            raise UserError(
                f"a bidirectional {type(self).__name__} cannot step: its reverse direction starts"
                " at the last token; use bidirectional=False for streaming"
            )
        if self.reads_ranks:
            raise UserError(
                f"a layer under {self.schedule} cannot step: its tree is over the whole sequence;"
                " use schedule=tr.Tree() for streaming"
            )
        done = self._step_once(x_t, state)
        if done is not None:
            return done
        check_input(type(self).__name__, x_t, 1, 2)
        x, state, batched = self._enter(x_t.unsqueeze(-2 if self.batch_first else 0), state)
        outputs, last = self._run(x, state, None, None, "all")
        y, last = self._leave(outputs, last, batched)
        return y.squeeze(-2 if self.batch_first and batched else 0), last

    def _step_once(self, x_t: Any, state: Any) -> tuple[Tensor, Any] | None:
        """`step` for a batch that goes on, without gradients; None where it is not that simple."""
        if torch.is_grad_enabled() or not isinstance(state, tuple) or self.schedule is not None:
            return None
        if not isinstance(x_t, Tensor) or x_t.dim() != 2:
            return None
        weights = []
        for level in range(self.num_layers):
            # Not by `weights`: attributes of modules are found slowly.
            found = {name: self._parameters.get(f"{name}_l{level}") for name in self._names}
            for weight in found.values():
                if weight is None:
                    return None
            weights.append(found)
        if self.training and (self.dropout or self.cell.noise(weights[0], 1, 1)):
            return None
        return step_once(self.cell, weights, x_t, state)

    def reduce(
        self,
        input: Tensor | PackedSequence,
        lengths: Tensor | None = None,
        state: State | Tensor | None = None,
        reset: Tensor | None = None,
        *,
        ranks: Tensor | None = None,
    ) -> Tensor:
        """Only the last output, (B, D*O) or (D*O,), cheaper where the schedule allows.

        Each direction's own last output, side by side: for the reverse direction that is the
        one at the first token. Without it, the same as `layer(x)[0]` at each sequence's end.
        """
        if isinstance(input, PackedSequence):
            refuse_lengths(lengths)
            input, lengths = pad_packed_sequence(input, batch_first=self.batch_first)
        x, state, batched = self._enter(input, state)
        self._show(x, lengths)
        reset, ranks = (self._time_first(given, batched) for given in (reset, ranks))
        last, _ = self._run(x, state, lengths, reset, "last", ranks=ranks)
        return last if batched else last.squeeze(0)

    def _forward_packed(
        self,
        packed: PackedSequence,
        state: State | Tensor | None,
        reset: Tensor | None,
        return_states: bool,
        ranks: Tensor | None,
    ) -> Any:
        """PackedSequence in, PackedSequence with the same indices out; states in user order."""
        padded, lengths = pad_packed_sequence(packed)
        reset, ranks = (self._time_first(given, batched=True) for given in (reset, ranks))
        x, state, _ = self._enter(padded, state, time_first=True)
        self._show(x, lengths)
        seen: list[Inner] | None = [] if return_states else None
        outputs, last = self._run(x, state, lengths, reset, "all", seen, ranks)
        order = packed.sorted_indices
        if order is not None:
            outputs, lengths = outputs.index_select(1, order), lengths[order.cpu()]
        data = pack_padded_sequence(outputs, lengths).data
        again = PackedSequence(data, packed.batch_sizes, order, packed.unsorted_indices)
        return (again, last) if seen is None else (again, last, self._seen(seen, batched=True))

    def _show(self, x: Tensor, lengths: Tensor | None) -> None:
        for hook in self._input_hooks.values():
            hook(x, lengths)

    def _enter(
        self, x: Tensor, state: State | Tensor | None, time_first: bool = False
    ) -> tuple[Tensor, State | None, bool]:
        """Check x and bring it to (T, B, I); give an unbatched state its batch axis."""
        check_input(type(self).__name__, x, 2, 3)
        if x.size(-1) != self.input_size:
            raise ShapeError(
                "input.size(-1) must be equal to input_size. Expected"
                f" {self.input_size}, got {x.size(-1)}"
            )
        weight = next(self.parameters())
        if x.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type):
            raise ValueError(
                f"RNN input dtype ({x.dtype}) does not match weight dtype ({weight.dtype})."
                f" Convert input: input.to({weight.dtype}), or convert model: model.to({x.dtype})"
            )
        batched = x.dim() == 3
        # nn.GRU and nn.RNN take their only state as a bare tensor.
        carried: State | None = (state,) if isinstance(state, Tensor) else state
        if not batched:
            x = x.unsqueeze(1)
        elif self.batch_first and not time_first:
            x = x.transpose(0, 1)
        if carried is not None:
            carried = self._check_carried(carried, x, batched)
        if carried is not None and not batched:
            carried = map_state(carried, lambda s: s.unsqueeze(1))
        if x.size(0) == 0:
            raise ShapeError("Expected sequence length to be larger than 0 in RNN")
        return x, carried, batched

    def _check_carried(self, state: Any, x: Tensor, batched: bool) -> Any:
        """A state given with x (T, B, I), unless it only says to start anew.

        Where the layer's own is h, or h and c, in nn.LSTM's words if it does not fit.
        """
        count, batch = self.num_layers * self.num_directions, x.shape[1]
        widths = None
        if isinstance(self.cell, StepCell | AffineCell):
            fields = self.cell.initial_state(1, x)
            if all(isinstance(field, Tensor) for field in fields):
                widths = tuple(field.shape[-1] for field in fields)
        if isinstance(state, tuple | list) and (widths is None or len(widths) < len(state)):
            leading = (count, batch) if batched else (count,)
            if starts_anew(state, (*leading, self.hidden_size), next(self.parameters())):
                return None
        if widths is not None:
            check_hidden(state, widths, count, batch, batched)
        return state

    def _time_first(self, given: Tensor | None, batched: bool) -> Tensor | None:
        """One value a token, reset or ranks, as (T, B)."""
        if given is None or not isinstance(given, Tensor):
            return given
        if not batched:
            return given.unsqueeze(1)
        return given.t() if self.batch_first and given.dim() == 2 else given

    def _leave(self, outputs: Tensor, last: Any, batched: bool) -> tuple[Tensor, Any]:
        if not batched:
            return outputs.squeeze(1), map_tensors(lambda s: s.squeeze(1), last)
        return outputs.transpose(0, 1) if self.batch_first else outputs, last

    def _seen(self, seen: list[Inner], batched: bool) -> Inner:
        """What each layer and direction did, fields (T, B, ...), stacked in the user's layout."""

        def stacked(*parts: Tensor) -> Tensor:
            one = torch.stack(parts)
            if not batched:
                return one.squeeze(2)
            return one.transpose(1, 2) if self.batch_first else one

        states = map_tensors(stacked, *(inner.state for inner in seen))
        names = seen[0].gates
        return Inner(states, {n: stacked(*(inner.gates[n] for inner in seen)) for n in names})

    def _run(
        self,
        x: Tensor,
        state: State | None,
        lengths: Tensor | None,
        reset: Tensor | None,
        wanted: Asked,
        seen: list[Inner] | None = None,
        ranks: Tensor | None = None,
    ) -> tuple[Tensor, Any]:
        """All layers and directions over x (T, B, I); what happens inside is added to `seen`.

        With only the last output, no state.
        """
        if reset is not None and self.bidirectional:
            raise UserError(
                "reset cannot be used with bidirectional=True: the reverse direction meets the"
                " end of an episode first; split the batch at the resets instead"
            )
        if lengths is not None:
            lengths = check_lengths(lengths, x.shape[0], x.shape[1], x.device)
        states = split_state(state, self.num_layers * self.num_directions, type(self).__name__)
        finals = []
        for level in range(self.num_layers):
            top = level == self.num_layers - 1
            here = states[len(finals) : len(finals) + self.num_directions]
            part: Asked = wanted if top else "all"
            carry = wanted == "all"
            x, last = self._run_level(level, x, here, lengths, reset, part, seen, carry, ranks)
            finals += last
            if self.dropout and not top:
                x = F.dropout(x, self.dropout, self.training)
        if wanted == "last":
            return x, None
        return x, map_tensors(lambda *parts: torch.stack(parts), *finals)

    def _run_level(
        self,
        level: int,
        x: Tensor,
        states: list[State | None],
        lengths: Tensor | None,
        reset: Tensor | None,
        wanted: Asked,
        seen: list[Inner] | None = None,
        carry: bool = True,
        ranks: Tensor | None = None,
    ) -> tuple[Tensor, list[State]]:
        """One layer's directions over x (T, B, I)."""
        sides, finals = [], []
        for direction, state in enumerate(states):
            weights, schedule = self.weights(level, direction), self.schedule
            if self.training:
                weights |= self.cell.noise(weights, x.shape[0], x.shape[1])
                if schedule is not None:
                    schedule = schedule.drawn(carries_on=state is not None)
            ran = unroll(
                self.cell,
                weights,
                reverse(x, lengths) if direction else x,
                state,
                schedule=schedule,
                lengths=lengths,
                reset=reset,
                ranks=ranks,
                outputs=wanted,
                inner=seen is not None,
                carry=carry,
            )
            finals.append(ran.state)
            if ran.inner is not None and seen is not None:
                seen.append(reverse_inner(ran.inner, lengths) if direction else ran.inner)
            back = direction == 1 and wanted == "all"
            sides.append(reverse(ran.outputs, lengths) if back else ran.outputs)
        return sides[0] if len(sides) == 1 else torch.cat(sides, dim=-1), finals

    def meets(
        self, input: Tensor, lengths: Tensor | None = None
    ) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """Each layer's and direction's weights and the input (T, B, I) it meets on a call.

        In the direction's own order of time, zero beyond `lengths`, without dropout.
        """
        x, _, _ = self._enter(input, None)
        if lengths is not None:
            lengths = check_lengths(lengths, x.shape[0], x.shape[1], x.device)
        if lengths is not None:
            x = x.masked_fill(past_end(x.shape[0], lengths), 0)
        for level in range(self.num_layers):
            for direction in range(self.num_directions):
                yield self.weights(level, direction), reverse(x, lengths) if direction else x
            if level < self.num_layers - 1:
                fresh: list[State | None] = [None] * self.num_directions
                x, _ = self._run_level(level, x, fresh, lengths, None, "all")

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        for name, usual in (
            ("proj_size", 0),
            ("num_layers", 1),
            ("bias", True),
            ("batch_first", False),
            ("dropout", 0.0),
            ("bidirectional", False),
        ):
            if getattr(self, name) != usual:
                text += f", {name}={getattr(self, name)}"
        for name, value in self.options.items():
            if name == "proj_size":
                continue
            text += f", {name}={value!r}"
        return text if self.schedule is None else f"{text}, schedule={self.schedule}"


def reverse_inner(inner: Inner, lengths: Tensor | None) -> Inner:
    """What the reverse direction did, at the tokens where it did it."""
    return Inner(
        map_tensors(lambda field: reverse(field, lengths), inner.state),
        {name: reverse(gate, lengths) for name, gate in inner.gates.items()},
    )


def reverse(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Each sequence of x (T, B, ...) backwards, within its own length; padding stays behind."""
    if lengths is None:
        return x.flip(0)
    time = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    source = torch.where(time < lengths, lengths - 1 - time, time)
    return x.gather(0, source.unsqueeze(-1).expand_as(x))
