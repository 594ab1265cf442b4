"""Where the supervised training of a base stands, on disk, so that a kill costs at most a minute of it."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from training.errors import TrainingError
from training.saving import replacing

SAVE_SECONDS = 60.0


class Stateful(Protocol):
    """A model, an optimizer or a schedule."""

    def state_dict(self) -> dict[str, Any]:
        """What it has become."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Become that."""


class Standing:
    """Saves the parts of a training once a minute, and takes them up again.

    Args:
        path: of the file.
        digest: of the recipe, whose values must be the same when a training is taken up.
        parts: what changes from step to step, by name.
    """

    def __init__(self, path: Path, digest: str, parts: Mapping[str, Stateful]) -> None:
        self._path = path
        self._digest = digest
        self._parts = parts
        self._saved = time.monotonic()

    def restore(self) -> int:
        """Take a killed training up; returns the steps that it has behind it, 0 where there is none.

        Raises:
            TrainingError: it had other recipe values.
        """
        if not self._path.exists():
            return 0
        found = torch.load(self._path, weights_only=True)
        if found["digest"] != self._digest:
            raise TrainingError(
                f"the training in {self._path.parent} had other recipe values: give the same to --resume, or train"
                " without it to begin anew"
            )
        for name, part in self._parts.items():
            part.load_state_dict(found["parts"][name])
        return int(found["steps"])

    def save(self, steps: int) -> None:
        """Save what ``steps`` steps have led to, if the last time is a minute ago."""
        if time.monotonic() - self._saved < SAVE_SECONDS:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        parts = {name: part.state_dict() for name, part in self._parts.items()}
        with replacing(self._path) as partial:
            torch.save({"digest": self._digest, "steps": steps, "parts": parts}, partial)
        self._saved = time.monotonic()

    def clear(self) -> None:
        """Forget it: the training is over, or begins anew."""
        self._path.unlink(missing_ok=True)
