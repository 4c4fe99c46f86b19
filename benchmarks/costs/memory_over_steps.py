"""Show that memory stays flat: resident and peak memory over 2,000 training steps.

python -m benchmarks.costs.memory_over_steps
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
import torch
from lightning.pytorch.callbacks import Callback

from benchmarks.common.command_line import command_parser
from dino_detector.commands.demo import demo_config
from dino_detector.commands.frame import configure_logging, run_command
from dino_detector.data.demo_set import write_demo_set
from dino_detector.training.fit import fit
from dino_detector.training.memory import peak_memory

STEPS = 2000
EVERY = 200
BATCH = 4
IMAGES = 400
MIB = 2**20


class Watch(Callback):
    """Print the memory after step 1 and after every 200 steps; the run also evaluates and writes checkpoints."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, float, float]] = []
        """step, resident memory and peak memory in MiB"""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        """Measure the memory."""
        if trainer.global_step == 1 or trainer.global_step % EVERY == 0:
            resident = psutil.Process().memory_info().rss / MIB
            peak = peak_memory(pl_module.device)["peak_memory_bytes"] / MIB
            self.rows.append((trainer.global_step, resident, peak))
            print(f"step {trainer.global_step:5}  resident {resident:7.0f} MiB  peak {peak:7.0f} MiB", flush=True)


def main() -> None:
    """Print the rows and a summary."""
    command_parser("benchmarks.costs.memory_over_steps", __doc__).parse_args()
    configure_logging()
    logging.getLogger("dino_detector").setLevel(logging.WARNING)
    torch.set_num_threads(2)
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        files = write_demo_set(Path(folder, "data"), train_images=IMAGES)
        config = demo_config(files, Path(folder, "run"))
        config = config.replace(batch_size=BATCH, epochs=STEPS * BATCH // IMAGES, val_frequency=5)
        fit(config, callbacks=[watch])
    first, *_, last = watch.rows
    after_warm_up = [resident for step, resident, _ in watch.rows if step >= EVERY]
    print(f"resident from step {EVERY} to {last[0]}: {min(after_warm_up):.0f} to {max(after_warm_up):.0f} MiB")
    print(f"peak after step 1: {first[2]:.0f} MiB, at the end: {last[2]:.0f} MiB, ratio {last[2] / first[2]:.3f}")


if __name__ == "__main__":
    sys.exit(run_command(main))
