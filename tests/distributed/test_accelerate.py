"""The example for Hugging Face Accelerate: two processes take the steps of one."""

import os
import re
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from conformance.observe import ATOL, RTOL

from .worlds import LOOPBACK

SCRIPT = Path(__file__).parents[2] / "examples" / "accelerate_train.py"
SMALL = ["--steps=4", "--batch=8", "--hidden-size=5", "--length=7", "--dtype=float64"]
LAUNCH = ["--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"]
LAUNCH += ["--num_cpu_threads_per_process=1", "--main_process_ip=127.0.0.1"]
LAUNCH += ["--main_process_port=0"]


def run(folder: Path, *command: str) -> str:
    # No configuration of whoever runs the tests, and no accelerator of theirs.
    environment = os.environ | {"HF_HOME": str(folder), "ACCELERATE_USE_CPU": "true"}
    environment |= {"OMP_NUM_THREADS": "1"} | LOOPBACK
    done = subprocess.run(
        [sys.executable, *command, str(SCRIPT), *SMALL, "--out", str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_processes_train_what_one_trains(tmp_path: Path) -> None:
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", *LAUNCH]
    alone, together = run(tmp_path / "one"), run(tmp_path / "two", *launch)
    assert re.fullmatch(r"step 4: loss [\d.]+\naccuracy: [\d.]+\nprocesses: 1\n", alone)
    assert together == alone.replace("processes: 1", "processes: 2")
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=RTOL, atol=ATOL)
