"""No layer and no option is registered without being held against the contract."""

import dataclasses

import pytest

import treering as tr

from .cases import OPTIONS


@pytest.mark.parametrize("name", tr.layers.names())
def test_every_option_is_tested_away_from_its_default(name: str):
    layer = tr.layers.get(name)
    defaults = {f.name: f.default for f in dataclasses.fields(layer.cell_type)}
    del defaults["hidden_size"]
    tried = OPTIONS.get(name, [])
    for option, default in defaults.items():
        if option == "forget_bias" and getattr(layer.cell_type, "keep_gate", "") is None:
            with pytest.raises(ValueError, match="needs a gate that keeps the state"):
                layer(2, 3, forget_bias=1.0)
            continue
        away = [options[option] for options in tried if options.get(option, default) != default]
        assert away, f"add a line with {option} to OPTIONS[{name!r}]"


def test_no_options_for_layers_that_do_not_exist():
    assert set(OPTIONS) <= set(tr.layers.names())
