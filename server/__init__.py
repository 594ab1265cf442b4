"""FastAPI and vLLM: an OpenAI-compatible API that reports steps, exits and savings."""
