"""*Savings*: tokens, accelerator time and money that shorter answers save, always with the source of the figure."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.panels import SELECTED, board, lines, number, rate, text_variable

BASELINE = "stepgrpo_baseline_tokens_total"
ACTUAL = "stepgrpo_actual_tokens_total"
BOUND = "stepgrpo_calibration_savings_ratio"
CALIBRATED = 'source="calibrated"'
SHADOW = 'source="shadow"'


def ratio(source: str, window: str = "$__rate_interval") -> str:
    """Savings of one source: 1 - actual tokens / baseline tokens."""
    actual, baseline = (f"sum (rate({family}{{{SELECTED}, {source}}}[{window}]))" for family in (ACTUAL, BASELINE))
    return f"1 - {actual} / ({baseline} > 0)"


SAVED = f"({rate(BASELINE, where=CALIBRATED)} - {rate(ACTUAL, where=CALIBRATED)})"
"""Tokens saved per second, by the calibration."""


def gained(family: str, where: str = "") -> str:
    """What a counter gained in the time range shown, added up over the selected replicas."""
    matchers = f"{SELECTED}, {where}" if where else SELECTED
    return f"sum (increase({family}{{{matchers}}}[$__range]))"


SAVED_IN_RANGE = f"({gained(BASELINE, CALIBRATED)} - {gained(ACTUAL, CALIBRATED)})"
"""Tokens saved in the time range shown, by the calibration."""

BUSY = (
    f"$__range_s * sum (sum_over_time((vllm:num_requests_running{{{SELECTED}}} > bool 0)[$__range:]))"
    " / scalar(count_over_time(vector(1)[$__range:]))"
)
"""Seconds of the time range shown that the engines had a request to work on, added up. An engine that did not run for
the whole range was idle for the rest."""


def savings() -> Dashboard:
    """The dashboard."""
    return (
        board(
            "stepgrpo-savings",
            "Step-GRPO: savings",
            "Tokens, accelerator time and money saved against the base model. Calibrated: by the checkpoint's own "
            "paired calibration. Shadow: by live replays on the base model.",
            [
                number(
                    "Saved, calibrated",
                    "Share of the base model's tokens saved, extrapolated from the checkpoint's calibration.",
                    "percentunit",
                    ratio(CALIBRATED),
                ),
                number(
                    "Tokens saved",
                    "Tokens saved in the time range shown, by the calibration.",
                    "short",
                    SAVED_IN_RANGE,
                ),
                number(
                    "GPU-seconds saved",
                    "Accelerator time that the tokens saved in the time range would have taken, had they come as "
                    "fast as those that were generated: tokens saved, over tokens generated per second in which an "
                    "engine had a request to work on, times the GPUs per replica set above. Idle time counts nowhere.",
                    "s",
                    f"$gpus * {BUSY} * {SAVED_IN_RANGE} / ({gained('vllm:generation_tokens_total')} > 0)",
                ),
                number(
                    "Cost saved",
                    "Tokens saved in the time range shown, at the price per million output tokens set above.",
                    "currencyUSD",
                    f"$price / 1e6 * {SAVED_IN_RANGE}",
                    decimals=4,
                ),
                lines(
                    "Savings and the calibration's interval",
                    "Share of the base model's tokens saved. Shadow: on live requests, over an hour. Lower and upper "
                    "are the 95 % interval of the checkpoint's calibration. Shadow below it: live traffic differs.",
                    "percentunit",
                    [
                        (ratio(CALIBRATED), "calibrated"),
                        (ratio(SHADOW, "1h"), "shadow (1 h)"),
                        (f'min({BOUND}{{{SELECTED}, bound="lower"}})', "calibration, lower"),
                        (f'max({BOUND}{{{SELECTED}, bound="upper"}})', "calibration, upper"),
                    ],
                ),
                lines(
                    "Tokens against the baseline",
                    "Tokens per second that were used, and that the base model would have used for these answers.",
                    "short",
                    [(rate(ACTUAL, where=CALIBRATED), "used"), (rate(BASELINE, where=CALIBRATED), "base model")],
                ),
                lines(
                    "Shadow requests",
                    "Live requests replayed on the base model: compared, skipped (busy or over the limit), failed.",
                    "reqps",
                    [(rate("stepgrpo_shadow_requests_total", "outcome"), "{{outcome}}")],
                ),
                lines(
                    "Saved per hour",
                    "Cost saved per hour at the price set above, by the calibration.",
                    "currencyUSD",
                    [(f"{SAVED} * 3600 * $price / 1e6", "saved per hour")],
                ),
            ],
        )
        .with_variable(text_variable("price", "Price", "Price of a million output tokens, in dollars.", "0.60"))
        .with_variable(text_variable("gpus", "GPUs per replica", "Accelerators that one replica runs on.", "1"))
    )
