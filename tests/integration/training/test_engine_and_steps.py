"""Training on a real engine: weights reach it, rollouts are exact, and a step of Step-GRPO does what it should.

Each test runs in a process of its own: an in-process engine cannot be built twice in one.
"""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

BASE = Path(__file__).resolve().parents[3] / "checkpoints" / "base"

pytestmark = pytest.mark.integration

PRELUDE = """
import json, sys
from pathlib import Path
import torch
from training.engine import Engine
from training.sampler import GREEDY, Request, Sampling, generate
from training.model import build_model
from training.tokenizer import build_tokenizer

torch.set_num_threads(1)
folder = Path(sys.argv[1])
tokenizer = build_tokenizer()

def save(seed, name="model"):
    model = build_model(tokenizer, seed, hidden_size=64, layers=2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(5)
    model.save_pretrained(folder / name)
    tokenizer.save_pretrained(folder / name)
    return model.eval()
"""


def run(tmp_path, body):
    """Run a script with the prelude and return the JSON value of its last line."""
    script = PRELUDE + textwrap.dedent(body)
    result = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


def test_the_engine_follows_the_trainers_weights(tmp_path):
    found = run(
        tmp_path,
        """
        from training.sync import logprob_differences, synchronise
        first, second = save(1), save(2)
        sequences = [tokenizer.encode("Mia has 12 marbles. In January 5 are lost."), tokenizer.encode("Wait, check it")]
        engine = Engine(folder / "model", max_model_len=128)  # holds the second model
        def largest(model):
            return logprob_differences(engine, model, sequences).max().item()
        before, apart = largest(second), largest(first)
        synchronise(engine, first, sequences)
        after = largest(first)
        prompt = sequences[0]
        greedy = generate(engine, [Request(prompt, 30, GREEDY)])[0].tokens
        ours = first.generate(torch.tensor([prompt]), max_new_tokens=30, do_sample=False)[0, len(prompt):].tolist()
        print(json.dumps({"before": before, "apart": apart, "after": after, "same": list(greedy) == ours}))
        """,
    )
    assert found["before"] < 1e-3
    assert found["after"] < 1e-3
    assert found["apart"] > 0.1
    assert found["same"]


def test_the_guard_rejects_vllms_own_reload(tmp_path):
    """``reload_weights`` reports success on the CPU and leaves the model wrong: the reason for the guard."""
    found = run(
        tmp_path,
        """
        from contextlib import nullcontext
        import training.engine
        from training.sync import SyncError, synchronise
        training.engine._plain_linear_layers = nullcontext
        first, second = save(1, "first"), save(2, "second")
        engine = Engine(folder / "second", max_model_len=128)

        class Reloading:
            token_logprobs = engine.token_logprobs
            def load_weights(self, weights):
                engine._engine.collective_rpc("reload_weights", kwargs={"weights_path": str(folder / "first")})
                engine._engine.reset_prefix_cache()

        try:
            synchronise(Reloading(), first, [tokenizer.encode("Mia has 12 marbles.")])
            print(json.dumps("accepted"))
        except SyncError as error:
            print(json.dumps(str(error)))
        """,
    )
    assert "differ by" in found


def test_a_faster_sort_draws_what_vllms_own_does(tmp_path):
    found = run(
        tmp_path,
        """
        save(1)
        engine = Engine(folder / "model", max_model_len=128)
        prompt = tokenizer.encode("Mia has 12 marbles.")
        requests = [Request(prompt, 40, Sampling(1.0, share)) for share in (0.2, 0.5, 0.8, 0.95, 1.0) * 8]

        def sampled():
            torch.manual_seed(3)
            return [completion.tokens for completion in generate(engine, requests)]

        def restore(worker):
            sampler = worker.model_runner.sampler.topk_topp_sampler
            sampler.forward = sampler.forward_cpu

        ours = sampled()
        engine._engine.collective_rpc(restore)
        print(json.dumps({"ours": ours, "theirs": sampled()}))
        """,
    )
    assert found["ours"] == found["theirs"]
    assert len({tuple(tokens) for tokens in found["ours"]}) > 20


def test_step_grpo_end_to_end(tmp_path):
    """Base, rollouts, rewards, updates, evaluation and card, in small: everything that the quickstart does."""
    found = run(
        tmp_path,
        """
        from reasoning import load_card
        from training.pipeline import run_recipe
        from training.recipe import load_recipe
        recipe = load_recipe("quickstart", [
            "model.hidden_size=64", "model.layers=2", "sft.steps=30", "grpo.steps=2", "grpo.prompts=4",
            "grpo.group_size=4", "grpo.micro_batch=8", "rollout.max_completion_tokens=160", "evaluation.questions=20",
            "rollout.threshold=0.2",
        ])
        stages = {}
        def on_stage(name):
            def on_step(step, steps, metrics):
                stages[name] = [step, steps]
            return on_step
        report = run_recipe(recipe, folder, on_stage)
        card = load_card(folder / "step-grpo")
        lines = [json.loads(line) for line in (folder / "step-grpo" / "training_log.jsonl").read_text().splitlines()]
        print(json.dumps({
            "stages": stages, "algorithm": card.algorithm, "n": card.calibration.n, "digest": card.recipe.digest,
            "expected": recipe.digest, "log": lines, "files": sorted(path.name for path in report.iterdir()),
        }))
        """,
    )
    assert all(step == steps for step, steps in found["stages"].values())
    assert (found["algorithm"], found["n"]) == ("step-grpo", 20)
    assert found["digest"] == found["expected"]
    assert [line["step"] for line in found["log"]] == [1, 2]
    assert all(line["sync_difference"] < 1e-3 for line in found["log"])
    assert found["files"] == [
        "difficulty.png",
        "exits.png",
        "report.json",
        "report.md",
        "tokens.png",
        "training.png",
        "trial_answers.png",
    ]


def test_a_few_steps_from_the_bundled_base_give_a_learning_signal(tmp_path):
    budget = 14_000  # of tokens: about three steps
    found = run(
        tmp_path,
        f"""
        from training.pipeline import post_train
        from training.recipe import load_recipe
        small = ["grpo.steps=60", "grpo.prompts=8", "grpo.group_size=4", "grpo.micro_batch=16", "seed=3"]
        small += ["grpo.token_budget={budget}", "grpo.learning_rate=4e-4", "grpo.schedule=linear"]
        recipe = load_recipe("quickstart", small)
        post_train(recipe, Path({str(BASE)!r}), folder / "tuned", lambda *_: None)
        log = (folder / "tuned" / "training_log.jsonl").read_text()
        print(json.dumps([json.loads(line) for line in log.splitlines()]))
        """,
    )
    assert all(line["grad_norm"] > 0 and line["sync_difference"] < 1e-3 for line in found)
    assert all(line["accuracy"] > 0.5 and line["exit_confidence"] > 0.1 for line in found)
    sampled = [line["sampled_tokens"] for line in found]
    assert 2 < len(sampled) < 60
    assert sum(sampled[:-1]) < budget <= sum(sampled)
    for step, line in enumerate(found):  # each learns at the rate that was left when the step before it was logged last
        left = min(1 - step / 60, 1 - sum(sampled[: max(0, step - 1)]) / budget)
        assert line["learning_rate"] == pytest.approx(4e-4 * left)
