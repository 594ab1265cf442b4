"""*Steps and exits*: how many reasoning steps an answer takes, and how and where the thinking ends."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.panels import SELECTED, board, heat, lines, mean, number, quantiles, rate

STEPS = "stepgrpo_reasoning_steps"
EXITS = "stepgrpo_exits_total"
POSITION = "stepgrpo_exit_position_ratio"
OWN = 'reason="model"'
CUT = 'reason="length"'


def steps() -> Dashboard:
    """The dashboard."""
    by_reason = f"sum by (reason) (rate(stepgrpo_exit_step_sum{{{SELECTED}}}[$__rate_interval]))"
    counted = f"sum by (reason) (rate(stepgrpo_exit_step_count{{{SELECTED}}}[$__rate_interval]))"
    return board(
        "stepgrpo-steps",
        "Step-GRPO: steps and exits",
        "How many semantic steps an answer takes, and how and where its thinking ends.",
        [
            number("Steps per answer", "Mean semantic steps of a finished answer.", "short", mean(STEPS), decimals=2),
            number("Tokens per step", "Mean tokens of a semantic step.", "short", mean("stepgrpo_step_tokens")),
            number(
                "Own exits",
                "Share of the answers whose thinking the model ended itself, which is what training internalises.",
                "percentunit",
                f"{rate(EXITS, where=OWN)} / {rate(EXITS)}",
            ),
            number(
                "Cut short",
                "Share of the answers that ran out of tokens while thinking. Should be near 0.",
                "percentunit",
                f"{rate(EXITS, where=CUT)} / {rate(EXITS)}",
            ),
            lines(
                "Steps per answer",
                "Median, 90th and 99th percentile of the semantic steps per answer.",
                "short",
                quantiles(STEPS),
            ),
            heat("Spread of the steps", "Number of answers by their steps: darker cells hold more.", "short", STEPS),
            lines(
                "Exits by reason",
                "How thinking ended: by the model itself, by a policy (confidence, step_budget, token_budget, "
                "repetition), by a limit (length, eos, stop), by the client (abort), or none without thinking.",
                "reqps",
                [(rate(EXITS, "reason"), "{{reason}}")],
                stacked=True,
            ),
            lines(
                "Exit step",
                "Mean step at which thinking ended, by reason; 0 where a block had no step.",
                "short",
                [(f"{by_reason} / ({counted} > 0)", "{{reason}}")],
            ),
            lines(
                "Exit position against the baseline",
                "Thinking tokens at the exit over the base model's mean completion tokens in the calibration. Below "
                "100 % the checkpoint leaves before the base model would.",
                "percentunit",
                [(mean(POSITION), "mean"), *quantiles(POSITION)],
                width=24,
            ),
        ],
    )
