"""Figures as JSON that every reader takes."""

import json
import math
from collections.abc import Mapping


def json_text(value: object) -> str:
    """Indented JSON; a number that JSON does not know (NaN, infinity) becomes null."""
    return json.dumps(_known(value), indent=2, allow_nan=False) + "\n"


def _known(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _known(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_known(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
