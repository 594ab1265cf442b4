"""Trackers that a recipe reports to, through transformers: TensorBoard, Weights & Biases, trackio and others."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from training.errors import TrainingError

TENSORBOARD_FOLDER = "TENSORBOARD_LOGGING_DIR"
"""Variable of the environment by which transformers is told; one that the user has set counts."""


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that are not known or not installed.

    Raises:
        TrainingError: it says what to install.
    """
    from transformers.integrations import get_available_reporting_integrations

    installed = get_available_reporting_integrations()
    if missing := [name for name in names if name not in installed]:
        raise TrainingError(
            f"grpo.report_to: {', '.join(missing)} cannot be reported to; install its package (there are"
            f" {', '.join(installed) or 'none'})"
        )


@contextmanager
def tensorboard_in(folder: Path) -> Iterator[None]:
    """While a trainer is made, let its TensorBoard files go to ``folder``, not among checkpoints that are deleted."""
    if TENSORBOARD_FOLDER in os.environ:
        yield
        return
    os.environ[TENSORBOARD_FOLDER] = str(folder)
    try:
        yield
    finally:
        del os.environ[TENSORBOARD_FOLDER]
