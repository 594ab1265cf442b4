from reasoning.bench import microseconds_per_token, trace_tokens


def test_a_trace_has_the_tokens_that_were_asked_for():
    tokens = trace_tokens(1_000)
    assert (len(tokens), tokens[0], tokens[-1]) == (1_000, "<think>", "</think>")


def test_the_cost_of_a_token_does_not_grow_with_the_trace():
    assert microseconds_per_token(64_000) < 4 * microseconds_per_token(4_000)
