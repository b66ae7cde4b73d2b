"""The register of layers: one line turns a cell into an nn.LSTM-like module."""

import inspect
import sys

from treering._errors import UserError, nearest
from treering.cells.abstract import Cell
from treering.cells.regularised import RegularisedCell
from treering.layers.recurrent import Recurrent

_LAYERS: dict[str, type[Recurrent]] = {}


def register(name: str, cell_type: type[Cell]) -> type[Recurrent]:
    """Make and register the layer of a cell: class name and documentation come from the cell.

    `name` is what the command line and `get` know it by. The caller assigns the class, under the
    cell's name without "Cell", in its own module, so that it can be pickled by reference.
    """
    if name in _LAYERS:
        raise ValueError(f"a layer called {name!r} is registered already")
    class_name = cell_type.__name__.removesuffix("Cell")
    formula = inspect.cleandoc(cell_type.__doc__ or "")
    shared = ""
    if issubclass(cell_type, RegularisedCell):
        _, _, options = inspect.cleandoc(RegularisedCell.__doc__ or "").partition("\n\n")
        shared = f"Options of every layer made of gates:\n\n{options}\n\n"
    contract = inspect.cleandoc(Recurrent.__doc__ or "")
    layer = type(
        class_name,
        (Recurrent,),
        {
            "__doc__": f"{formula}\n\n{shared}The layer:\n{contract}",
            "__module__": sys._getframe(1).f_globals["__name__"],
            "cell_type": cell_type,
            "name": name,
        },
    )
    layer.__signature__ = layer.signature()  # pyright: ignore[reportAttributeAccessIssue]
    _LAYERS[name] = layer
    return layer


def get(name: str) -> type[Recurrent]:
    """The layer class registered under `name`; UserError with the nearest names otherwise."""
    if name not in _LAYERS:
        raise UserError(nearest(name, _LAYERS, "layer"))
    return _LAYERS[name]


def names() -> tuple[str, ...]:
    """All registered names, in the order of registration."""
    return tuple(_LAYERS)
