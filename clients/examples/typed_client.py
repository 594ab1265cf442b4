"""This project's client: typed events, exit control and report."""

import os

from clients import Answer, Client, ExitControl, ThinkingText

client = Client(os.environ.get("STEPGRPO_URL", "http://127.0.0.1:8000"))
question = "Tom has 12 apples. In January 7 more arrive. How many apples does Tom have now?"
for event in client.stream(question, ExitControl(max_reasoning_steps=4), temperature=0):
    if isinstance(event, Answer):
        print("\n", event.report)
    else:
        print(f"\033[2m{event.text}\033[0m" if isinstance(event, ThinkingText) else event.text, end="", flush=True)
