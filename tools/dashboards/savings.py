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

ENGINE_SHARE = f"{SAVED} / ({rate('vllm:generation_tokens_total')} > 0)"
"""What part of the engines' output the saved tokens would have been in addition."""

ENGINES = f"count(vllm:num_requests_running{{{SELECTED}}})"


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
                    f"sum (increase({BASELINE}{{{SELECTED}, {CALIBRATED}}}[$__range]))"
                    f" - sum (increase({ACTUAL}{{{SELECTED}, {CALIBRATED}}}[$__range]))",
                ),
                number(
                    "GPU-seconds saved",
                    "Accelerator time that the saved tokens of the time range would have taken at the engines' "
                    "present rate of tokens per second (an idle engine counts in full).",
                    "s",
                    f"$gpus * {ENGINES} * $__range_s * {ENGINE_SHARE}",
                ),
                number(
                    "Cost saved",
                    "Tokens saved in the time range shown, at the price per million output tokens set above.",
                    "currencyUSD",
                    f"$price / 1e6 * (sum (increase({BASELINE}{{{SELECTED}, {CALIBRATED}}}[$__range]))"
                    f" - sum (increase({ACTUAL}{{{SELECTED}, {CALIBRATED}}}[$__range])))",
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
