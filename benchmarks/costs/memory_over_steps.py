"""Whether memory stays flat: resident memory over 2,000 training steps, and when its peak was reached.

python -m benchmarks.costs.memory_over_steps
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import psutil
import torch
from lightning.pytorch.callbacks import Callback

from dino_detector.commands.demo import demo_config
from dino_detector.commands.frame import configure_logging
from dino_detector.data.demo_set import write_sample
from dino_detector.training.fit import fit
from dino_detector.training.memory import peak_memory

STEPS = 2000
EVERY = 200
MIB = 2**20


class Watch(Callback):
    """Prints a row after the first step and then every 200, evaluations and checkpoints included."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        """After the step."""
        if trainer.global_step == 1 or trainer.global_step % EVERY == 0:
            resident = psutil.Process().memory_info().rss / MIB
            peak = peak_memory(pl_module.device)["peak_memory_bytes"] / MIB
            self.rows = [*getattr(self, "rows", []), (trainer.global_step, resident, peak)]
            print(f"step {trainer.global_step:5}  resident {resident:7.0f} MiB  peak {peak:7.0f} MiB", flush=True)


def main() -> None:
    """Print the rows, and what they say."""
    configure_logging()
    logging.getLogger("dino_detector").setLevel(logging.WARNING)
    torch.set_num_threads(2)
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        config = demo_config(write_sample(Path(folder, "data")), Path(folder, "run")).replace(batch_size=4)
        images = 400
        fit(config.replace(epochs=-(-STEPS * 4 // images), val_frequency=5), callbacks=[watch])
    first, *_, last = watch.rows
    after_warm_up = [resident for step, resident, _ in watch.rows if step >= EVERY]
    print(f"resident from step {EVERY} to {last[0]}: {min(after_warm_up):.0f} to {max(after_warm_up):.0f} MiB")
    print(f"peak after step 1: {first[2]:.0f} MiB, at the end: {last[2]:.0f} MiB, {last[2] / first[2]:.3f} times")


if __name__ == "__main__":
    main()
