"""*Tokens per answer*: what an answer costs, and what part of it is thinking."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.panels import board, heat, lines, mean, number, quantile, quantiles, rate

ANSWER = "stepgrpo_completion_tokens"
THINKING = "stepgrpo_reasoning_tokens"
REST = "stepgrpo_answer_tokens"


def tokens() -> Dashboard:
    """The dashboard."""
    return board(
        "stepgrpo-tokens",
        "Step-GRPO: tokens per answer",
        "How many tokens an answer takes, thinking included.",
        [
            number(
                "Mean tokens per answer", "All tokens of a finished answer, thinking included.", "short", mean(ANSWER)
            ),
            number(
                "90th percentile", "Nine answers in ten take at most this many tokens.", "short", quantile(0.9, ANSWER)
            ),
            number(
                "Thinking share",
                "Share of the tokens that are thinking.",
                "percentunit",
                f"{rate(f'{THINKING}_sum')} / {rate(f'{ANSWER}_sum')}",
            ),
            number(
                "Answers per second", "Finished answers, over the selected replicas.", "reqps", rate(f"{ANSWER}_count")
            ),
            lines(
                "Mean, by model",
                "Mean tokens per answer of every selected model. A step up without harder questions is overthinking.",
                "short",
                [(mean(ANSWER, "model_name"), "{{model_name}}")],
            ),
            lines(
                "Percentiles",
                "Median, 90th and 99th percentile of the tokens per answer, interpolated within buckets.",
                "short",
                quantiles(ANSWER),
            ),
            lines(
                "Thinking and answer",
                "Mean tokens of the two parts of an answer, stacked; together they are the mean tokens per answer.",
                "short",
                [(mean(THINKING), "thinking"), (mean(REST), "answer")],
                stacked=True,
            ),
            heat(
                "Spread",
                "Number of answers by their tokens, darker for more. Two bands point to two kinds of question.",
                "short",
                ANSWER,
            ),
        ],
    )
