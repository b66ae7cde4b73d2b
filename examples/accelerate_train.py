"""Train a treering layer on a formal language with Hugging Face Accelerate.

    pip install accelerate
    accelerate launch --num_processes 2 examples/accelerate_train.py --layer pr-lstm

One process or several, on CPUs or GPUs: the same steps on the same samples. A batch is shared out
among the processes, so with N of them each sees `--batch` / N samples a step.

Several processes on one machine's CPU: `ACCELERATE_USE_CPU=true accelerate launch --multi_gpu ...`.
With `--cpu`, `accelerate launch` starts a single process, whatever `--num_processes` says.
"""

import argparse
from collections.abc import Iterator
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset

import treering as tr
from treering.models import Transducer
from treering.tasks.abstract import GeneratedTask


class Samples(IterableDataset[tuple[Tensor, Tensor]]):
    """`count` samples of a task, the same for the same seed: inputs (T,) and targets (M,)."""

    def __init__(self, task: GeneratedTask, length: int, count: int, seed: int) -> None:
        self.task, self.length, self.count, self.seed = task, length, count, seed

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.count):
            batch = self.task.sample(1, self.length, generator)
            yield batch.inputs[0], batch.targets[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="parity_check")
    parser.add_argument("--layer", default="pr-lstm", help=", ".join(tr.layers.names()))
    parser.add_argument("--hidden-size", type=int, default=64)
    parser.add_argument("--length", type=int, default=8)
    parser.add_argument("--batch", type=int, default=128, help="samples a step, in all processes")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--out", help="folder to save the model in")
    options = parser.parse_args()

    accelerator = Accelerator(dataloader_config=DataLoaderConfiguration(split_batches=True))
    torch.manual_seed(0)  # the same first parameters everywhere
    task = tr.tasks.get(options.task)
    layer = tr.layers.get(options.layer)(task.input_size + 1, options.hidden_size, batch_first=True)
    model = Transducer(layer, task.input_size, task.output_size)
    model.to(getattr(torch, options.dtype))
    training = Samples(task, options.length, options.steps * options.batch, seed=1)
    testing = Samples(task, options.length, 4 * options.batch, seed=2)
    model, optimizer, training, testing = accelerator.prepare(
        model,
        torch.optim.Adam(model.parameters(), lr=1e-3),
        DataLoader(training, batch_size=options.batch),
        DataLoader(testing, batch_size=options.batch),
    )

    for step, (inputs, targets) in enumerate(training, 1):
        optimizer.zero_grad()
        logits = model(inputs, output_length=targets.shape[1])
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0 or step == options.steps:
            everywhere: Any = accelerator.gather(loss.detach()[None])
            accelerator.print(f"step {step}: loss {everywhere.mean():.6f}")

    model.eval()
    right = []
    with torch.no_grad():
        for inputs, targets in testing:
            answers = model(inputs, output_length=targets.shape[1]).argmax(-1)
            right.append(accelerator.gather_for_metrics(answers == targets))
    accuracy = torch.cat(right).float().mean()
    accelerator.print(f"accuracy: {accuracy:.4f}")
    if options.out:
        accelerator.save_model(model, options.out)
    accelerator.print(f"processes: {accelerator.num_processes}")
    accelerator.end_training()


if __name__ == "__main__":
    main()
