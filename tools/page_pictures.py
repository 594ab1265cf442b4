"""Take the docs' pictures of the web page: ``python tools/page_pictures.py URL docs``.

URL is a server of the bundled checkpoint, with ``--compare-url`` of one that serves the base. Needs a Chromium: the one
on the path, or ``CHROMIUM``.
"""

import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, ViewportSize, expect, sync_playwright

QUESTION = (
    "Sam starts with 33 coins and gets 4 more each day. How many coins does Sam have"
    " the first time that 7 friends can share them equally?"
)
DESKTOP: ViewportSize = {"width": 1120, "height": 900}
PHONE: ViewportSize = {"width": 360, "height": 780}


def main(url: str, folder: str) -> None:
    """Ask once in each theme and size, and save what is seen."""
    with sync_playwright() as playwright:
        executable = os.environ.get("CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        for name, size, theme, both in (
            ("page-light", DESKTOP, "light", True),
            ("page-dark", DESKTOP, "dark", True),
            ("page-phone", PHONE, "light", False),
        ):
            page = browser.new_page(viewport=size, color_scheme="dark" if theme == "dark" else "light")
            ask(page, url, both)
            page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
            page.close()
        browser.close()


def ask(page: Page, url: str, both: bool) -> None:
    """Ask the question, greedy, and wait for the end."""
    page.goto(url)
    expect(page.get_by_role("button", name="Ask")).to_be_enabled(timeout=30_000)  # once it knows what is served
    page.get_by_label("Side by side").set_checked(both)
    page.get_by_label("Temperature").fill("0")
    page.get_by_label("Question").fill(QUESTION)
    page.get_by_role("button", name="Ask").click()
    page.get_by_role("status").filter(has_text="Answer:").wait_for(state="attached")
    page.get_by_role("complementary").get_by_role("listitem").filter(has_text="tokens per answer").wait_for()
    page.get_by_label("Question").blur()  # its ring would be what the eye falls on


if __name__ == "__main__":
    main(*sys.argv[1:])
