"""What happens without transformers; that `import treering` loads none is held elsewhere."""

import subprocess
import sys

import pytest
import transformers

from treering.hf import TreeringConfig, TreeringForCausalLM


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("before", "message"),
    [
        ("sys.modules['transformers'] = None", "which is not installed"),
        (
            "sys.modules['transformers'] = types.SimpleNamespace(__version__='5.9.1')",
            "needs transformers 5.16 or newer, found 5.9.1",
        ),
    ],
)
def test_the_message_says_what_to_install(before: str, message: str) -> None:
    done = run(f"import sys, types; {before}; import treering.hf")
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: treering.hf needs transformers")
    assert message in last
    assert "pip install 'treering[hf]'" in last


def test_registering_again_changes_nothing() -> None:
    from treering.hf.registration import register

    register()
    assert transformers.AutoConfig.for_model("treering").__class__ is TreeringConfig
    net = transformers.AutoModelForCausalLM.from_config(TreeringConfig(vocab_size=5, hidden_size=3))
    assert type(net) is TreeringForCausalLM
