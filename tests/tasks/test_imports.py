"""What importing the tasks costs."""

import subprocess
import sys


def test_tasks_alone_import_nothing_heavy():
    program = (
        "import sys; import torch; before = set(sys.modules); import treering.tasks; "
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = set(run.stdout.split())
    assert "treering" in loaded
    assert not loaded & {"tokenizers", "pooch", "requests", "platformdirs", "rich", "pydantic"}
