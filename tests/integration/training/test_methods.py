"""Every method trains for a step from the bundled base, and the comparison of methods measures it."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

BASE = Path(__file__).resolve().parents[3] / "checkpoints" / "base"

pytestmark = pytest.mark.integration


def run(tmp_path, body):
    """Run a script and return the JSON value of its last line; engines want a process of their own."""
    script = "import json, sys; from pathlib import Path; import torch; torch.set_num_threads(1)\n"
    script += "folder, base = Path(sys.argv[1]), Path(sys.argv[2])\n" + textwrap.dedent(body)
    arguments = [sys.executable, "-c", script, str(tmp_path), str(BASE)]
    result = subprocess.run(arguments, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


def test_every_method_trains(tmp_path):
    found = run(
        tmp_path,
        """
        import training.distill
        import training.grpo
        from training.engines import open_engine
        from training.methods import METHODS
        from training.pipeline import post_train
        from training.recipe import load_recipe
        from training.step_log import LOG_NAME, read_log

        small = ["grpo.steps=1", "grpo.prompts=4", "grpo.group_size=4", "grpo.micro_batch=8", "distill.batch_size=4"]
        small += ["rollout.temperature=1.3", "rollout.top_p=1"]  # or all of a group are right, with nothing to learn
        shared = open_engine(load_recipe("quickstart"), base)  # one start for all: weights follow each trainer's
        shared.close = lambda: None
        training.distill.open_engine = training.grpo.open_engine = lambda *_, **options: shared
        logs = {}
        for name in sorted(METHODS, key=lambda name: name != "deer-sft"):  # it samples from the base as loaded
            if name != "deer":
                recipe = load_recipe("quickstart", [f"method={name}", *small])
                post_train(recipe, base, folder / name, lambda *_: None)
                logs[name] = read_log(folder / name / LOG_NAME)
                assert (folder / name / "model.safetensors").exists() and (folder / name / "step_grpo.json").exists()
        pruned = load_recipe("quickstart", [*small, "pruning={}", "grpo.updates=2", "grpo.micro_batch=4"])
        post_train(pruned, base, folder / "pruned", lambda *_: None)
        logs["pruned"] = read_log(folder / "pruned" / LOG_NAME)
        print(json.dumps(logs))
        """,
    )
    distilled, pruned = found.pop("deer-sft"), found.pop("pruned")[0]
    assert distilled[0]["loss"] > 0 < distilled[0]["sampled_tokens"]
    for name, [line] in found.items():
        assert line["grad_norm"] > 0, name
        assert line["sampled_tokens"] > 0, name
        assert line["accuracy"] > 0.3, name
    assert found["s-grpo"][0]["exit_serial"] == 0.75
    assert found["s-grpo"][0]["sampled_tokens"] < 16 * found["s-grpo"][0]["completion_tokens"]
    assert found["grpo"][0]["forced_share"] == 0 < found["step-grpo"][0]["forced_share"]
    assert pruned["trained_tokens"] < found["step-grpo"][0]["trained_tokens"]
    assert pruned["clip_ratio_forced"] >= 0


def test_methods_are_compared_and_a_finished_comparison_is_not_run_again(tmp_path):
    found = run(
        tmp_path,
        """
        import time
        from training.comparison import compare_methods
        from training.recipe import load_recipe

        if __name__ == "__main__":
            small = ["grpo.micro_batch=16", "rollout.engine=transformers", "grpo.steps=4"]
            recipe = load_recipe("quickstart", small)
            options = dict(methods=("deer",), seeds=1, trials=1, token_budget=500, questions=20, workers=1)
            options |= dict(trial_budget=250, base=base)
            report = compare_methods(recipe, folder, lambda _: lambda *_: None, **options)
            started = time.monotonic()
            compare_methods(recipe, folder, lambda _: lambda *_: None, **options)
            rows = json.loads((report / "comparison.json").read_text())["rows"]
            files = sorted(path.name for path in report.iterdir())
            print(json.dumps({"rows": rows, "files": files, "again": time.monotonic() - started}))
        """,
    )
    assert [row["method"] for row in found["rows"]] == ["base", "deer"]
    assert found["rows"][1]["tokens"]["mean"] > 0
    assert found["files"] == ["checks.png", "comparison.json", "comparison.md", "pareto.png"]
