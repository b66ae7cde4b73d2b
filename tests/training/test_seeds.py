import os
import subprocess
import sys
from dataclasses import replace

import torch

from treering.tasks.abstract import Task
from treering.training import Settings, run_id
from treering.training.seeds import derive, fingerprint


def test_seeds_differ_by_purpose_and_by_seed():
    drawn = {derive(seed, purpose) for seed in range(50) for purpose in ("data", "dropout")}
    assert len(drawn) == 100
    assert all(0 <= seed < 2**63 for seed in drawn)


def test_the_same_run_has_the_same_name_and_another_run_another(parity, reverse):
    settings = Settings(steps=5)
    sizes = {"hidden_size": 8, "embedding_size": None}
    name = run_id(parity, "lstm", settings, 0, sizes)
    assert name == run_id(parity, "lstm", Settings(steps=5), 0, dict(reversed(sizes.items())))
    assert len(name) == 12
    others = {
        run_id(reverse, "lstm", settings, 0, sizes),
        run_id(parity, "gru", settings, 0, sizes),
        run_id(parity, "lstm", Settings(steps=6), 0, sizes),
        run_id(parity, "lstm", settings, 1, sizes),
        run_id(parity, "lstm", settings, 0, sizes | {"hidden_size": 9}),
    }
    assert len(others) == 5
    assert name not in others


def test_the_name_does_not_depend_on_the_process():
    class Any(Task):
        name = "any"

    code = (
        "from treering.tasks.abstract import Task\n"
        "from treering.training import Settings, run_id\n"
        "class Any(Task): name = 'any'\n"
        "print(hash('lstm'), run_id(Any(), 'lstm', Settings(steps=5), 0))"
    )
    other_order = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONHASHSEED": other_order},
        capture_output=True,
        text=True,
        check=True,
    )
    hashed, name = ran.stdout.split()
    assert int(hashed) != hash("lstm")
    assert name == run_id(Any(), "lstm", Settings(steps=5), 0)


def test_an_edited_data_set_is_another_run(dataset):
    settings = Settings(epochs=1)
    same, edited = dataset(0), dataset(1)
    assert fingerprint(dataset(0)) == fingerprint(same) != fingerprint(edited)
    assert run_id(same, "lstm", settings, 0) != run_id(edited, "lstm", settings, 0)


def test_trees_make_another_run_of_a_layer_that_reads_them_alone(dataset):
    plain = dataset(0)
    trees = [
        replace(plain, train=plain.train._replace(ranks=torch.full_like(plain.train.tokens, k)))
        for k in (0, 1)
    ]
    assert len({fingerprint(task) for task in (plain, *trees)}) == 1
    assert len({fingerprint(task, ranks=True) for task in (plain, *trees)}) == 3
    settings = Settings(epochs=1)
    for ranks, count in ((False, 1), (True, 2)):
        assert len({run_id(t, "pr-lstm", settings, 0, ranks=ranks) for t in trees}) == count
