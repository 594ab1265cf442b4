"""The live log of a run: one line a step, in a file that survives a restart."""

import json
import math
from pathlib import Path

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from training.errors import TrainingError
from training.json_lines import read_lines
from training.progress import StepCallback
from training.saving import write_whole

LOG_NAME = "training_log.jsonl"
OMITTED = {"epoch", "num_tokens"}


class StepLog(TrainerCallback):  # type: ignore[misc]
    """Writes the metrics of every step, stops at the token budget, and refuses a loss that is no number.

    Args:
        path: JSON lines; what it holds beyond ``resumed_step`` is dropped.
        steps: planned steps.
        updates: optimiser updates a step.
        on_step: called after every step.
        token_budget: sampled tokens after which the run ends.
        resumed_step: the step that a resumed run has behind it.
    """

    def __init__(
        self,
        path: Path,
        steps: int,
        updates: int,
        on_step: StepCallback,
        *,
        token_budget: int | None = None,
        resumed_step: int = 0,
    ) -> None:
        self._path, self._steps, self._updates, self._on_step = path, steps, updates, on_step
        self._token_budget = token_budget
        kept = [line for line in read_log(path) if line["step"] <= resumed_step]
        self._sampled = sum(line["sampled_tokens"] for line in kept)
        self._kept = kept

    def budget_left(self) -> float:
        """Share of the token budget that is not used up; 1 where there is none."""
        return max(0.0, 1 - self._sampled / self._token_budget) if self._token_budget is not None else 1.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Begin the file anew, with the lines of the steps that a resumed run keeps."""
        if state.is_world_process_zero:
            write_whole(self._path, "".join(json.dumps(line) + "\n" for line in self._kept))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: object,
    ) -> None:
        """Write the line of the step that ended (the trainer's closing summary has no reward and is left out)."""
        if not logs or "reward" not in logs:
            return
        step = state.global_step // self._updates
        for key in ("loss", "grad_norm"):
            if not math.isfinite(logs.get(key, 0.0)):
                raise TrainingError(
                    f"{key} is {logs[key]} at step {step}: go on from the last checkpoint with --resume and a lower"
                    " --set grpo.learning_rate"
                )
        line = {"step": float(step), "clip_ratio": logs.get("clip_ratio/region_mean", 0.0)}
        line |= {key: value for key, value in logs.items() if "/" not in key and key not in OMITTED}
        self._sampled += line.get("sampled_tokens", 0.0)
        if self._token_budget is not None and self._sampled >= self._token_budget:
            control.should_training_stop = True
        if state.is_world_process_zero:
            with self._path.open("a") as file:
                file.write(json.dumps(line) + "\n")
            self._on_step(step, self._steps, line)


def read_log(path: Path) -> list[dict[str, float]]:
    """The lines of a log; a last one that a kill cut short is left out, and no file is an empty log."""
    return read_lines(path)
