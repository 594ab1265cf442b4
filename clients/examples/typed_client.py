"""This project's client: typed events, exit control and report."""

import os

from clients import Answer, Client, ExitControl, ThinkingText

question = "Tom has 12 apples. In January 7 more arrive. How many apples does Tom have now?"
with Client(os.environ.get("STEPGRPO_URL", "http://127.0.0.1:8000")) as client:
    for event in client.stream(question, ExitControl(max_reasoning_steps=4), temperature=0):
        if isinstance(event, Answer):
            print("\n", event.report)
        else:
            dim = isinstance(event, ThinkingText)
            print(f"\033[2m{event.text}\033[0m" if dim else event.text, end="", flush=True)
