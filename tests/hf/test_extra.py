"""What happens without transformers; that `import treering` loads none is held elsewhere."""

import importlib
import sys
from types import SimpleNamespace

import pytest
import transformers

from treering.hf import TreeringConfig, TreeringForCausalLM


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (None, "which is not installed"),
        (SimpleNamespace(__version__="5.9.1"), "needs transformers 5.16 or newer, found 5.9.1"),
    ],
)
def test_the_message_says_what_to_install(
    found: object, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [*sys.modules]:
        if name.partition(".")[0] == "transformers" or name.startswith("treering.hf"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "transformers", found)
    with pytest.raises(ImportError, match=r"^treering\.hf needs transformers") as caught:
        importlib.import_module("treering.hf")
    assert message in str(caught.value)
    assert "pip install 'treering[hf]'" in str(caught.value)


def test_registering_again_changes_nothing() -> None:
    from treering.hf.registration import register

    register()
    assert transformers.AutoConfig.for_model("treering").__class__ is TreeringConfig
    net = transformers.AutoModelForCausalLM.from_config(TreeringConfig(vocab_size=5, hidden_size=3))
    assert type(net) is TreeringForCausalLM
