"""Checkpoints of a run under way: written so that a kill at any moment leaves a whole one to go on from."""

import shutil
from pathlib import Path

from accelerate import PartialState  # type: ignore[import-untyped]
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from training.errors import TrainingError

CHECKPOINTS, MARK = "resume", "complete"
"""Folder of a run's checkpoints, in that of what it makes, and what a whole one holds."""


class MarkComplete(TrainerCallback):  # type: ignore[misc]
    """Marks a checkpoint once all of it is written; one without the mark is never resumed."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Write the mark into the checkpoint that was just saved, once every process has written its part."""
        PartialState().wait_for_everyone()
        if state.is_world_process_zero:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / MARK).touch()


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint of a run, if there is one."""
    marked = [mark.parent for mark in folder.glob(f"checkpoint-*/{MARK}")]
    return max(marked, key=step_of, default=None)


def step_of(checkpoint: Path) -> int:
    """Optimiser updates that a checkpoint has behind it."""
    return int(checkpoint.name.rpartition("-")[2])


def prepare(folder: Path, digest: str, *, resume: bool) -> Path | None:
    """Get the folder of a run's checkpoints ready; returns the one to go on from.

    Args:
        folder: of the checkpoints.
        digest: of the values that a run keeps when it is resumed.
        resume: keep what is there.

    Raises:
        TrainingError: the checkpoints in it come from a recipe with other values.
    """
    stamp = folder / "recipe"
    if resume and stamp.exists():
        if stamp.read_text() != digest:
            raise TrainingError(
                f"the checkpoints in {folder} were made by other recipe values; give the same recipe and --set values"
                " to --resume, or train without it to begin anew"
            )
        return last_checkpoint(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    stamp.write_text(digest)
    return None
