"""Load tests over HTTP, and the benchmark against vLLM's own server."""
