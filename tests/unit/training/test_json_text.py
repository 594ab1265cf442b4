import json
import math

from training.json_text import json_text


def test_numbers_that_json_does_not_know_are_null_at_any_depth():
    text = json_text({"a": math.nan, "b": [1.5, {"c": (math.inf, None, "NaN")}]})
    assert json.loads(text) == {"a": None, "b": [1.5, {"c": [None, None, "NaN"]}]}
    assert text.endswith("}\n")
