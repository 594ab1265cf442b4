"""One answer of the page, as a reader sees it."""

from playwright.async_api import Locator


class Lane:
    """One column of the page."""

    def __init__(self, root: Locator) -> None:
        self.root = root
        self.steps = root.get_by_role("list", name="Steps").get_by_role("listitem")
        self.answer = root.locator(".answer")
        self.alert = root.get_by_role("alert")
        self.note = root.locator(".note")
        self.bar = root.get_by_role("img")

    def figure(self, name: str) -> Locator:
        """The figure over ``tokens``, ``steps`` or ``saved``."""
        return self.root.locator(".figures > div", has_text=name).locator("dd")

    def legend(self, name: str) -> Locator:
        """What explains a part of the bar."""
        return self.root.locator(".legend > li", has_text=name)

    async def step_tokens(self) -> list[int]:
        """Tokens of each step."""
        return [int(text.split()[0]) for text in await self.steps.locator(".cost").all_text_contents()]
