"""*Service*: rate, errors, latency and saturation, from vLLM's own metrics."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.panels import SELECTED, board, lines, number, quantiles, rate

V1 = 'job="stepgrpo", instance=~"$instance", handler=~"/v1/.*", method="POST"'
REQUESTS = f"sum (rate(http_requests_total{{{V1}}}[$__rate_interval]))"
ERRORS = f'sum (rate(http_requests_total{{{V1}, status="5xx"}}[$__rate_interval]))'


def service() -> Dashboard:
    """The dashboard."""
    return board(
        "stepgrpo-service",
        "Step-GRPO: service",
        "Rate, errors, latency and saturation.",
        [
            number("Servers up", "Servers that Prometheus can scrape.", "short", 'sum(up{job="stepgrpo"})', decimals=0),
            number(
                "Requests per second",
                "Requests for answers (POST under /v1), however they end.",
                "reqps",
                REQUESTS,
                decimals=2,
            ),
            number(
                "Error ratio",
                "Share of the requests for answers (POST under /v1) that end in a server error (5xx).",
                "percentunit",
                f"({ERRORS} or vector(0)) / {REQUESTS}",
            ),
            number(
                "Output tokens per second",
                "Tokens that the engines generate, thinking included.",
                "short",
                rate("vllm:generation_tokens_total"),
            ),
            lines(
                "Requests by status",
                "Requests for answers, by class of HTTP status: 4xx are the clients' mistakes and refusals, 5xx ours.",
                "reqps",
                [(f"sum by (status) (rate(http_requests_total{{{V1}}}[$__rate_interval]))", "{{status}}")],
                stacked=True,
            ),
            lines(
                "End-to-end latency",
                "Seconds from a request's arrival to its last token.",
                "s",
                quantiles("vllm:e2e_request_latency_seconds"),
            ),
            lines(
                "Time to first token",
                "Seconds from a request's arrival to its first token, which is the first token of thinking.",
                "s",
                quantiles("vllm:time_to_first_token_seconds"),
            ),
            lines(
                "Inter-token latency",
                "Seconds between two tokens of one answer.",
                "s",
                quantiles("vllm:inter_token_latency_seconds"),
            ),
            lines(
                "Queue",
                "Requests that the engines work on, and that wait for a place. A queue that stays means saturation.",
                "short",
                [
                    (f"sum (vllm:num_requests_running{{{SELECTED}}})", "running"),
                    (f"sum (vllm:num_requests_waiting{{{SELECTED}}})", "waiting"),
                ],
            ),
            lines(
                "KV cache",
                "Share of the KV cache in use, by instance. At 100 % requests are preempted.",
                "percentunit",
                [(f"max by (instance) (vllm:kv_cache_usage_perc{{{SELECTED}}})", "{{instance}}")],
            ),
            lines(
                "Preemptions",
                "Requests thrown out of the full KV cache, to be computed again.",
                "reqps",
                [(rate("vllm:num_preemptions_total"), "preempted")],
            ),
            lines(
                "Prefix cache",
                "Share of the prompt tokens that were found in the KV cache.",
                "percentunit",
                [(f"{rate('vllm:prefix_cache_hits_total')} / {rate('vllm:prefix_cache_queries_total')}", "hits")],
            ),
        ],
    )
