"""Trainer: a few steps, a checkpoint, and the same numbers after resuming."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset
from transformers import (
    DataCollatorForLanguageModeling,
    DataCollatorWithFlattening,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

from hf.making import VOCABULARY, config, tokenizer, tokens
from treering.hf import TreeringForCausalLM, TreeringForSequenceClassification


class Texts(Dataset[dict[str, Any]]):
    """Texts of different lengths; the label says whether the first token is large."""

    def __init__(self, count: int, labelled: bool) -> None:
        self.rows = []
        for seed in range(count):
            ids = tokens(1, 2 + seed % 7, seed=seed)[0]
            row: dict[str, Any] = {"input_ids": ids.tolist()}
            if labelled:
                row["labels"] = int(ids[0] > VOCABULARY // 2)
            self.rows.append(row)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return dict(self.rows[index])


def arguments(folder: Path, **changes: Any) -> TrainingArguments:
    options: dict[str, Any] = {
        "output_dir": str(folder),
        "use_cpu": True,
        "max_steps": 4,
        "save_steps": 2,
        "logging_steps": 1,
        "per_device_train_batch_size": 4,
        "learning_rate": 0.05,
        "report_to": [],
        "disable_tqdm": True,
    }
    return TrainingArguments(**(options | changes))


def classification(
    folder: Path, layer: str = "pr-lstm", dropout: float = 0.3, **changes: Any
) -> Trainer:
    """A trainer with a model that starts from the same numbers every time."""
    set_seed(0)
    words = tokenizer()
    return Trainer(
        model=TreeringForSequenceClassification(config(layer, dropout=dropout)),
        args=arguments(folder, **changes),
        train_dataset=Texts(24, labelled=True),
        eval_dataset=Texts(9, labelled=True),
        data_collator=DataCollatorWithPadding(words),
        processing_class=words,
    )


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    assert trainer.model is not None
    return {key: value.clone() for key, value in trainer.model.state_dict().items()}


@pytest.mark.parametrize("layer", ["pr-lstm", "ql-lstm", "min-gru"])
def test_training_resumes_from_a_checkpoint(layer: str, tmp_path: Path) -> None:
    whole = classification(tmp_path / "run", layer)
    before = weights(whole)
    result = whole.train()
    assert result.global_step == 4
    assert all(not torch.equal(before[key], value) for key, value in weights(whole).items())
    checkpoint = tmp_path / "run" / "checkpoint-2"
    names = {path.name for path in checkpoint.iterdir()}
    assert {"config.json", "model.safetensors", "trainer_state.json"} <= names
    resumed = classification(tmp_path / "other", layer)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    for key, value in weights(whole).items():
        torch.testing.assert_close(weights(resumed)[key], value, rtol=1e-5, atol=1e-6)
    final = tmp_path / "run" / "checkpoint-4"
    again = TreeringForSequenceClassification.from_pretrained(final)
    assert all(torch.equal(again.state_dict()[key], value) for key, value in weights(whole).items())


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    trainer = classification(tmp_path, max_steps=30, save_strategy="no")
    before = trainer.evaluate(Texts(24, labelled=True))["eval_loss"]
    trainer.train()
    assert trainer.evaluate(Texts(24, labelled=True))["eval_loss"] < 0.5 * before


def test_predictions_are_logits_alone(tmp_path: Path) -> None:
    trainer = classification(tmp_path)
    predictions = trainer.predict(Texts(9, labelled=True))
    assert isinstance(predictions.predictions, np.ndarray)
    assert predictions.predictions.shape == (9, 2)


# Its newer name is unknown to older releases of transformers, which still have to refuse.
@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* is deprecated:FutureWarning")
def test_gradient_checkpointing_is_refused(tmp_path: Path) -> None:
    trainer = classification(tmp_path, gradient_checkpointing=True)
    with pytest.raises(ValueError, match="does not support"):
        trainer.train()


def test_accumulated_batches_count_as_one(tmp_path: Path) -> None:
    """Four batches of one and one batch of four: the same steps."""
    both = [
        classification(
            tmp_path / str(size),
            dropout=0.0,
            max_steps=2,
            save_strategy="no",
            per_device_train_batch_size=size,
            gradient_accumulation_steps=4 // size,
            optim="sgd",
        )
        for size in (1, 4)
    ]
    for trainer in both:
        trainer.train()
    one, four = map(weights, both)
    for key, value in one.items():
        torch.testing.assert_close(value, four[key], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("flat", [False, True])
def test_language_models(flat: bool, tmp_path: Path) -> None:
    set_seed(0)
    words = tokenizer()
    collator = (
        DataCollatorWithFlattening() if flat else DataCollatorForLanguageModeling(words, mlm=False)
    )
    trainer = Trainer(
        model=TreeringForCausalLM(config("pr-lstm")),
        args=arguments(tmp_path, eval_strategy="steps", eval_steps=2),
        train_dataset=Texts(24, labelled=False),
        eval_dataset=Texts(9, labelled=False),
        data_collator=collator,
    )
    assert trainer.train().global_step == 4
    losses = [log["eval_loss"] for log in trainer.state.log_history if "eval_loss" in log]
    assert len(losses) == 2
    assert losses[1] < losses[0]
    # Trainer has switched the cache off in the configuration; a checkpoint generates with it.
    again: Any = TreeringForCausalLM.from_pretrained(tmp_path / "checkpoint-4")
    assert again(tokens(1, 3)).cache_params is not None
    output = again.generate(tokens(1, 3), max_new_tokens=2, return_dict_in_generate=True)
    assert output.past_key_values is not None


def test_a_flattened_batch_has_the_loss_of_its_texts() -> None:
    net = TreeringForCausalLM(config("pr-lstm")).double().eval()
    rows = [Texts(4, labelled=False)[k] for k in range(4)]
    flat = DataCollatorWithFlattening()([dict(row) for row in rows])
    padded = DataCollatorForLanguageModeling(tokenizer(), mlm=False)([dict(row) for row in rows])
    one = net(**{key: value for key, value in flat.items() if isinstance(value, torch.Tensor)})
    two = net(**padded)
    torch.testing.assert_close(one.loss, two.loss, rtol=1e-6, atol=0)
