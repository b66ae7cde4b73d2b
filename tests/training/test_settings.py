import json

import pytest

from treering._errors import UserError
from treering.training import Curriculum, LengthGrid, Settings


def test_steps_or_epochs_but_not_both_and_not_neither():
    assert Settings(steps=3).epochs is None
    assert Settings(epochs=3).steps is None
    with pytest.raises(UserError, match=r"^Settings: give steps or epochs, got neither"):
        Settings()
    with pytest.raises(UserError, match=r"got both \(3 and 4\); write steps=\.\.\. or epochs="):
        Settings(steps=3, epochs=4)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"batch_size": 0}, "batch_size = 0: Input should be greater than 0"),
        ({"learning_rate": -1.0}, "learning_rate = -1.0: Input should be greater than 0"),
        ({"learning_rate": float("nan")}, "learning_rate = nan"),
        ({"clip": 0.0}, "clip = 0.0"),
        ({"stop_at": 0.0}, "stop_at = 0.0"),
        ({"bucket": 0}, "bucket = 0"),
        ({"weight_decay": -0.1}, "weight_decay = -0.1"),
        ({"warmup_steps": -1}, "warmup_steps = -1"),
        ({"precision": "float16"}, "precision = 'float16'"),
        ({"learning_rate_schedule": "linear"}, "learning_rate_schedule = 'linear'"),
        ({"select": "first"}, "select = 'first': Input should be 'last' or 'best validation'"),
        ({"optimiser": "adam"}, "optimiser = 'adam': Extra inputs are not permitted"),
        ({"curriculum": {"longest": 0}}, "longest = 0"),
        ({"evaluation": {"start": 9, "stop": 3}}, "stop = 3 is less than start = 9"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_it(change, text):
    with pytest.raises(UserError) as caught:
        Settings(steps=1, **change)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_wrong_value_is_named_at_once():
    with pytest.raises(UserError, match=r"batch_size = 0.*log_every = -1"):
        Settings(steps=1, batch_size=0, log_every=-1)


def test_settings_are_frozen_and_come_back_from_json():
    settings = Settings(
        steps=7, learning_rate=0.1, curriculum=Curriculum(2, 9, kind="growing"), clip=None
    )
    with pytest.raises(ValueError, match="frozen"):
        settings.steps = 8
    assert Settings(**json.loads(settings.model_dump_json())) == settings


def test_the_uniform_curriculum_is_the_benchmarks():
    curriculum = Settings(steps=1).curriculum
    assert (curriculum.shortest, curriculum.longest, curriculum.kind) == (1, 40, "uniform")
    assert {curriculum.limit(step, 10) for step in range(10)} == {40}


def test_the_growing_curriculum_rises_in_equal_steps():
    curriculum = Curriculum(3, 7, kind="growing", grow_for=0.5)
    limits = [curriculum.limit(step, 20) for step in range(20)]
    assert limits == [3, 3, 4, 4, 5, 5, 6, 6, 7, 7] + [7] * 10


def test_lengths_in_the_wrong_order_are_refused():
    with pytest.raises(UserError, match="longest = 2 is less than shortest = 5; exchange them"):
        Curriculum(5, 2)


@pytest.mark.parametrize(
    ("count", "points"),
    [(0, ()), (1, (40,)), (2, (1, 40)), (4, (1, 14, 27, 40)), (100, tuple(range(1, 41)))],
)
def test_points_of_the_training_range(count, points):
    assert Curriculum(1, 40).points(count) == points


def test_the_grid_counts_its_stop_and_names_itself():
    full = LengthGrid()
    assert full.lengths == tuple(range(41, 501))
    assert len(full.lengths) == 460
    assert full.describe() == "mean accuracy over lengths 41..500, 512 samples each"
    coarse = LengthGrid(step=20)
    assert coarse.lengths[:2] == (41, 61)
    assert coarse.lengths[-1] == 481
    assert coarse.describe() == "mean accuracy over lengths 41..500 step 20, 512 samples each"
    assert LengthGrid(start=7, stop=7, samples=3).describe() == "accuracy at length 7, 3 samples"
