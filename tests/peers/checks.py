"""What every library is asked, in words that none of them owns.

A check returns if the library passes. An AssertionError means wrong numbers, NotOfferedError that
the library has no such thing, anything else is what a user would see.
Legend: T time, B batch, H hidden.
"""

import copy
import pickle
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.export import Dim
from torch.func import functional_call, grad, jvp, vmap
from torch.nn.utils import parametrizations
from torch.utils import flop_counter

from peers.adapters import NotOfferedError, Peer, Treering, draw, tensors
from treering import export
from treering.kernels import aten

Check = Callable[[Peer], None]
CHECKS: dict[str, Check] = {}
T, B, H = 7, 3, 4
LENGTHS = torch.tensor([4, 7, 1])
DOUBLE = torch.float64
PRECISION = {torch.float32: 1e-4, DOUBLE: 1e-9}


class PartlyError(Exception):
    """It passes in part; the text says in which."""


def check(title: str) -> Callable[[Check], Check]:
    def register(function: Check) -> Check:
        CHECKS[title] = function
        return function

    return register


def close(one: Any, other: Any, tolerance: float = 1e-9) -> None:
    for a, b in zip(tensors(one), tensors(other), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance, check_dtype=False)


def made(peer: Peer, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return peer.build(H, **{"dtype": DOUBLE, **options})


@check("cut in two, the state carried on: the whole's numbers")
def carried(peer: Peer) -> None:
    module, x = made(peer), draw(T, B, H)
    whole, last = peer.run(module, x)
    for place in (1, 3, T - 1):
        first, state = peer.run(module, x[:place])
        second, end = peer.run(module, x[place:], state)
        close(torch.cat((first, second)), whole)
    close(end, last)


@check("token by token: the whole's numbers")
def stepped(peer: Peer) -> None:
    module, x, state, outputs = made(peer), draw(T, B, H), None, []
    for x_t in x.split(1):
        y, state = peer.run(module, x_t, state)
        outputs.append(y)
    close(torch.cat(outputs), peer.run(module, x)[0])


@check("first derivatives, also of the initial state (finite differences)")
def derivatives(peer: Peer) -> None:
    module, x = made(peer), draw(3, 2, H).requires_grad_()
    _, state = peer.run(module, draw(2, 2, H, seed=1))
    parts = [s.detach().requires_grad_() for s in tensors(state)]

    def function(x: Tensor, *parts: Tensor) -> Tensor:
        given = iter(parts)
        return peer.run(module, x, refilled(state, given))[0]

    assert torch.autograd.gradcheck(function, (x, *parts))


def refilled(state: Any, given: Iterator[Tensor]) -> Any:
    """The state with its float tensors taken from `given`."""
    if isinstance(state, Tensor):
        return next(given) if state.is_floating_point() else state
    parts = [refilled(part, given) for part in state]
    return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)


@check("double backward (finite differences)")
def double_backward(peer: Peer) -> None:
    module, x = made(peer), draw(3, 2, H).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: peer.run(module, x)[0], (x,))


@check("several layers")
def layers(peer: Peer) -> None:
    module, x = made(peer, num_layers=2), draw(T, B, H)
    whole, _ = peer.run(module, x)
    first, state = peer.run(module, x[:3])
    close(torch.cat((first, peer.run(module, x[3:], state)[0])), whole)


@check("two directions")
def directions(peer: Peer) -> None:
    module, x = made(peer, bidirectional=True), draw(T, B, H)
    assert peer.run(module, x)[0].shape == (T, B, 2 * H)


@check("batch first")
def batch_first(peer: Peer) -> None:
    if peer.package == "minGRU-pytorch":
        return  # It is always batch first; the adapter turns.
    module, turned, x = made(peer), made(peer, batch_first=True), draw(T, B, H)
    close(peer.run(turned, x.transpose(0, 1))[0].transpose(0, 1), peer.run(module, x)[0])


@check("unbatched input (T, I)")
def unbatched(peer: Peer) -> None:
    peer.need("unbatched")
    module, x = made(peer), draw(T, 1, H)
    close(peer.run(module, x[:, 0])[0], peer.run(module, x)[0][:, 0])


@check("different lengths: each sequence as if alone, and its own last state")
def lengths(peer: Peer) -> None:
    module, x = made(peer), draw(T, B, H)
    y, state = peer.padded(module, x, LENGTHS)
    for b, n in enumerate(LENGTHS.tolist()):
        own, last = peer.run(module, x[:n, b : b + 1])
        close(y[:n, b : b + 1], own)
        for padded, alone in zip(tensors(state), tensors(last), strict=True):
            if padded.dim() == alone.dim() == 3:
                close(padded[:, b : b + 1], alone)


@check("NaN in the padding is never read, by outputs or gradients")
def poisoned(peer: Peer) -> None:
    module, x = made(peer), draw(T, B, H)
    past = torch.arange(T).unsqueeze(1) >= LENGTHS
    x = x.masked_fill(past.unsqueeze(-1), torch.nan).requires_grad_()
    y, _ = peer.padded(module, x, LENGTHS)
    y.sum().backward()
    assert y.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


@check("start anew in mid-sequence by a mask")
def reset(peer: Peer) -> None:
    module, x = made(peer), draw(T, B, H)
    flags = torch.zeros(T, B, dtype=torch.bool)
    flags[3] = True
    y = peer.reset(module, x, flags)
    close(y, torch.cat((peer.run(module, x[:3])[0], peer.run(module, x[3:])[0])))


@check("inner states at every token")
def inner(peer: Peer) -> None:
    module, x = made(peer), draw(T, B, H)
    seen = peer.inner(module, x)
    close(seen[0][0], peer.run(module, x)[0])


@check("input of a wrong width: a message with both numbers")
def wrong_width(peer: Peer) -> None:
    message = refusal(lambda: peer.run(made(peer), draw(T, B, H + 1)))
    assert {str(H), str(H + 1)} <= set(re.findall(r"\d+", message)), f"the message: {message}"


@check("packed or padded input of a wrong width: a message with both numbers and `input`")
def wrong_packed_width(peer: Peer) -> None:
    message = refusal(lambda: peer.padded(made(peer), draw(T, B, H + 1), LENGTHS))
    assert {str(H), str(H + 1)} <= set(re.findall(r"\d+", message)), f"the message: {message}"
    assert "input" in message, f"the message: {message}"


@check("a state of another batch: a message that names the state")
def wrong_state(peer: Peer) -> None:
    module = made(peer)
    _, state = peer.run(module, draw(T, B + 2, H))
    message = refusal(lambda: peer.run(module, draw(T, B, H), state))
    assert re.search(r"state|hidden|hx", message), f"the message: {message}"


def refusal(call: Callable[[], Any]) -> str:
    """The first line of what is raised; an AssertionError if nothing is."""
    try:
        call()
    except NotOfferedError:
        raise
    except Exception as error:
        return str(error).partition("\n")[0]
    raise AssertionError("it runs and answers something")


@check("an empty batch")
def empty_batch(peer: Peer) -> None:
    assert peer.run(made(peer), draw(T, 0, H))[0].shape == (T, 0, H)


@check("65,537 tokens in one call")
def long(peer: Peer) -> None:
    module = made(peer)
    with torch.no_grad():
        y, _ = peer.run(module, draw(65_537, 1, H))
        start, _ = peer.run(module, draw(65_537, 1, H)[:50])
    assert y.isfinite().all()
    close(y[:50], start)


@check("`torch.compile(fullgraph=True)`: eager's numbers at two lengths")
def compiled(peer: Peer) -> None:
    module = made(peer)
    torch._dynamo.reset()
    run = torch.compile(lambda x: peer.run(module, x)[0], fullgraph=True, backend="aot_eager")
    for time in (T, 12):
        close(run(draw(time, B, H)), peer.run(module, draw(time, B, H))[0])
    torch._dynamo.reset()


@check("the compiled graph does not grow with the number of tokens")
def graph(peer: Peer) -> None:
    module, sizes = made(peer), []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        del inputs
        sizes.append(len(graph.graph.nodes))
        return graph.forward

    for time in (8, 64):
        torch._dynamo.reset()
        run = torch.compile(lambda x: peer.run(module, x)[0], fullgraph=True, backend=backend)
        run(draw(time, B, H))
    torch._dynamo.reset()
    assert sizes[1] <= sizes[0] + 2, f"{sizes[0]} nodes for 8 tokens, {sizes[1]} for 64"


@check("`torch.export` with free batch and time")
def exported(peer: Peer) -> None:
    module = Run(peer, made(peer))
    free = {"x": {0: Dim("time", min=2), 1: Dim("batch", min=2)}}
    program = torch.export.export(module, (draw(T, B, H),), dynamic_shapes=free).module()
    for time, batch in ((2, 2), (19, 5)):
        x = draw(time, batch, H)
        close(program(x), module(x))


class Run(nn.Module):
    """A layer as a module that answers outputs alone, for exporters."""

    def __init__(self, peer: Peer, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.peer = [peer]

    def forward(self, x: Tensor) -> Tensor:
        return self.peer[0].run(self.layer, x)[0]


@check("ONNX with free batch and time: onnxruntime gives PyTorch's numbers")
def onnx(peer: Peer) -> None:
    layer = made(peer, dtype=torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.onnx")
        if isinstance(peer, Treering):
            export.to_onnx(layer, path)
            return runs_at_any_size(peer, layer, path)
        example = (draw(T, B, H, dtype=torch.float32),)
        free = {0: Dim("time", min=2), 1: Dim("batch", min=2)}
        torch.onnx.export(
            Run(peer, layer), example, path,
            dynamo=True, dynamic_shapes={"x": free}, verbose=False, input_names=["x"],
        )  # fmt: skip
        try:
            return runs_at_any_size(peer, layer, path)
        except Exception as error:
            torch.onnx.export(
                Run(peer, layer), example, path,
                dynamo=False, dynamic_axes={"x": {0: "time", 1: "batch"}}, input_names=["x"],
            )  # fmt: skip
            try:
                runs_at_any_size(peer, layer, path)
            except Exception:
                raise error from None
            raise PartlyError("only with the deprecated exporter, dynamo=False") from None


def runs_at_any_size(peer: Peer, layer: nn.Module, path: str) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    for time, batch in ((T, B), (19, 5)):
        x = draw(time, batch, H, dtype=torch.float32)
        y = torch.from_numpy(session.run(None, {name: x.numpy()})[0])
        close(y, peer.run(layer, x)[0], 1e-5)


def in_both_precisions(function: Callable[[Peer, torch.dtype], None]) -> Check:
    """A check in float64 and float32, which run on different operators."""

    def both(peer: Peer) -> None:
        passed, failure = [], None
        for dtype in (torch.float32, DOUBLE):
            try:
                function(peer, dtype)
                passed.append(str(dtype).removeprefix("torch."))
            except Exception as error:
                failure = error
        if failure is not None and passed:
            raise PartlyError(f"in {passed[0]} alone: {first_line(failure)}")
        if failure is not None:
            raise failure

    return both


@check("`torch.func.vmap` over inputs, in float32 and float64")
@in_both_precisions
def vectorised(peer: Peer, dtype: torch.dtype) -> None:
    module, xs = made(peer, dtype=dtype), draw(5, T, B, H, dtype=dtype)
    y = vmap(lambda x: peer.run(module, x)[0])(xs)
    close(y, torch.stack([peer.run(module, x)[0] for x in xs]), PRECISION[dtype])


@check("per-sample gradients, in float32 and float64")
@in_both_precisions
def per_sample(peer: Peer, dtype: torch.dtype) -> None:
    module, x = made(peer, dtype=dtype), draw(T, B, H, dtype=dtype)
    parameters = {name: p.detach() for name, p in module.named_parameters()}
    run = Run(peer, module)

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        named = {f"layer.{name}": p for name, p in parameters.items()}
        return functional_call(run, named, (x.unsqueeze(1),)).square().sum()

    found = vmap(grad(loss), in_dims=(None, 1))(parameters, x)
    for b in range(B):
        into = list(module.parameters())
        alone = torch.autograd.grad(peer.run(module, x[:, b : b + 1])[0].square().sum(), into)
        close([found[name][b] for name in parameters], list(alone), PRECISION[dtype])


@check("forward mode (`torch.func.jvp`), in float32 and float64")
@in_both_precisions
def forward_mode(peer: Peer, dtype: torch.dtype) -> None:
    module, x, v = made(peer), draw(T, B, H), draw(T, B, H, seed=1)
    step = 1e-6
    high, low = peer.run(module, x + step * v)[0], peer.run(module, x - step * v)[0]
    module.to(dtype)
    tangent = jvp(lambda x: peer.run(module, x)[0], (x.to(dtype),), (v.to(dtype),))[1]
    close(tangent, (high - low) / (2 * step), max(1e-6, PRECISION[dtype]))


def under_autocast(peer: Peer, dtype: torch.dtype) -> None:
    module, x = made(peer, dtype=torch.float32), draw(T, B, H, dtype=torch.float32)
    expected, _ = peer.run(module, x)
    with torch.autocast("cpu", dtype):
        y, state = peer.run(module, x)
        peer.run(module, x, state)
    close(y.float(), expected, 20 * torch.finfo(dtype).eps)
    y.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


@check("autocast bf16: forward, backward and a carried state")
def autocast_bfloat16(peer: Peer) -> None:
    under_autocast(peer, torch.bfloat16)


@check("autocast fp16: forward, backward and a carried state")
def autocast_float16(peer: Peer) -> None:
    under_autocast(peer, torch.float16)


@check("under autocast the state stays float32")
def state_dtype(peer: Peer) -> None:
    module, x = made(peer, dtype=torch.float32), draw(T, B, H, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        _, state = peer.run(module, x)
    found = {str(s.dtype) for s in tensors(state)}
    assert found == {"torch.float32"}, f"it is {', '.join(sorted(found))}"


@check("a bf16 module: forward and backward")
def bfloat16(peer: Peer) -> None:
    module = made(peer, dtype=torch.bfloat16)
    y, _ = peer.run(module, draw(T, B, H, dtype=torch.bfloat16))
    y.float().sum().backward()
    exact = copy.deepcopy(module).double()
    close(y, peer.run(exact, draw(T, B, H, dtype=torch.bfloat16).double())[0], 0.1)


@check("deepcopy and pickle")
def copied(peer: Peer) -> None:
    module, x = made(peer), draw(T, B, H)
    y, _ = peer.run(module, x)
    close(peer.run(copy.deepcopy(module), x)[0], y)
    close(peer.run(pickle.loads(pickle.dumps(module)), x)[0], y)


@check("safetensors with the layer at two places")
def safetensors(peer: Peer) -> None:
    layer, x = made(peer), draw(T, B, H)
    model = nn.ModuleDict({"first": layer, "second": layer})
    other = made(peer)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    loaded = nn.ModuleDict({"first": other, "second": other})
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.safetensors")
        save_model(model, path)
        load_model(loaded, path)
    close(peer.run(other, x)[0], peer.run(layer, x)[0])


@check("weight norm through parametrizations")
def weight_norm(peer: Peer) -> None:
    module, x = made(peer), draw(T, B, H)
    y, _ = peer.run(module, x)
    for owner in list(module.modules()):
        for name, parameter in list(owner.named_parameters(recurse=False)):
            if parameter.dim() == 2:
                parametrizations.weight_norm(owner, name)
    z, _ = peer.run(module, x)
    close(z, y)
    z.sum().backward()
    assert all(p.grad is not None for p in module.parameters())


@contextmanager
def without_our_formulas(peer: Peer) -> Iterator[None]:
    """PyTorch's counter as it is without treering, for what is not treering's."""
    registry = flop_counter.flop_registry
    taken = {} if isinstance(peer, Treering) else dict(registry)
    for operator in aten.FORMULAS:
        if taken:
            del registry[operator]
    try:
        yield
    finally:
        registry.update(taken)


@check("`FlopCounterMode`: float32 counts what float64 counts, and not 0")
def operations(peer: Peer) -> None:
    counts = []
    with without_our_formulas(peer):
        for dtype in (torch.float32, DOUBLE):
            module = made(peer, dtype=dtype)
            with flop_counter.FlopCounterMode(display=False) as counter:
                peer.run(module, draw(T, B, H, dtype=dtype))
            counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0, f"{counts[0]} and {counts[1]}"


@check("the same call twice: the same bits")
def deterministic(peer: Peer) -> None:
    module, x = made(peer, dtype=torch.float32), draw(T, B, H, dtype=torch.float32)
    assert torch.equal(peer.run(module, x)[0], peer.run(module, x)[0])


def outcome(title: str, peer: Peer) -> tuple[str, str]:
    """ "pass", "not offered", "wrong" or "fails", and the reason in one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            CHECKS[title](peer)
        except NotOfferedError:
            return "not offered", ""
        except PartlyError as error:
            return "partly", str(error)
        except AssertionError as error:
            return "wrong", first_line(error)
        except Exception as error:
            return "fails", f"{type(error).__name__}: {first_line(error)}"
    return "pass", ""


def first_line(error: Exception) -> str:
    """The beginning of its text, on one line, without paths of this machine."""
    text = re.sub(r"\S*/site-packages/|\x1b\[\d*m", "", " ".join(str(error).split()))
    difference = re.search(r"Greatest absolute difference: (\S+)", text)
    if difference:
        return f"off by {float(difference[1]):.2g}"
    return text if len(text) <= 200 else f"{text[:197]}..."
