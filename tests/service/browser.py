"""A person at the page: real Chromium, driven by Playwright.

`python tests/service/browser.py` saves the screenshot of the page that README shows.
"""

from __future__ import annotations

import io
import math
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright
from real_server import ROOT, Server

PAGE = ROOT / "service" / "page"
FLAGS = [
    "--no-sandbox",  # containers have no user namespaces
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
Strokes = Sequence[Sequence[tuple[float, float]]]  # corners, in shares of the sheet's side


def arc(x: float, y: float, radius: float, start: int, stop: int) -> list[tuple[float, float]]:
    """Points on a circle, clockwise from one angle to another, in degrees."""
    angles = [math.radians(angle) for angle in range(start, stop, 10)]
    return [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]


SEVEN = [[(0.3, 0.2), (0.7, 0.2), (0.45, 0.8)]]
THREE = [[*arc(0.5, 0.33, 0.15, -150, 90), *arc(0.49, 0.65, 0.17, -80, 150)]]


@contextmanager
def launch(chromium: Path) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


class Visitor:
    """Somebody who has the page open, and notes what it loads and what it complains about."""

    def __init__(self, browser: Browser, server: Server, **context: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **context})
        self.server = server
        self.page: Page = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.context.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self._note(message.type, message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _note(self, kind: str, text: str) -> None:
        # Chromium itself reports every refused request; no page can prevent that.
        if kind in ("error", "warning") and not text.startswith("Failed to load resource"):
            self.complaints.append(text)

    def open(self, path: str = "/ui") -> Visitor:
        """Open the page and wait until it knows the models."""
        self.page.goto(self.server.url + path)
        expect(self.page.locator("#bars li")).to_have_count(10)
        return self

    def see(self, selector: str, text: str) -> None:
        """Wait until the page says so there."""
        expect(self.page.locator(selector)).to_have_text(text)

    def hear(self, pattern: str) -> None:
        """Wait until a screen reader would say so; an answer is said when the last ink has been answered."""
        expect(self.page.get_by_role("status")).to_have_text(re.compile(pattern))

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def draw(self, strokes: Strokes = SEVEN, *, lift: bool = True) -> None:
        """Draw with the mouse; without `lift` the button stays down at the end."""
        for stroke in strokes:
            self.page.mouse.move(*self.on_paper(*stroke[0]))
            self.page.mouse.down()
            for corner in stroke[1:]:
                self.page.mouse.move(*self.on_paper(*corner), steps=10)
            if lift:
                self.page.mouse.up()

    def on_paper(self, x: float, y: float) -> tuple[float, float]:
        box = self.page.locator("#paper").bounding_box()
        assert box is not None
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def drop(self, *files: Path) -> None:
        """Drop files as a file manager does."""
        session = self.context.new_cdp_session(self.page)
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        for kind in (
            "dragEnter",
            "dragOver",
            "dragOver",
            "drop",
        ):  # Chromium heeds the welcome one event late
            session.send("Input.dispatchDragEvent", {"type": kind, "x": 400, "y": 300, "data": data})
            if kind == "dragOver":
                expect(self.page.get_by_text("Drop to classify")).to_be_visible()

    def touch(self, stroke: Sequence[tuple[float, float]]) -> None:
        session = self.context.new_cdp_session(self.page)
        for kind, corner in zip(["touchStart"] + ["touchMove"] * len(stroke[1:]), stroke, strict=True):
            x, y = self.on_paper(*corner)
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    def pen(self, stroke: Sequence[tuple[float, float]], force: float) -> None:
        session = self.context.new_cdp_session(self.page)
        kinds = ["mousePressed"] + ["mouseMoved"] * len(stroke[1:]) + ["mouseReleased"]
        for kind, corner in zip(kinds, [*stroke, stroke[-1]], strict=True):
            x, y = self.on_paper(*corner)
            event = {"type": kind, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1}
            session.send("Input.dispatchMouseEvent", {**event, "pointerType": "pen", "force": force})


def save_screenshot(target: Path) -> None:
    """The page with a 3 drawn on it, answered by the shipped models."""
    chromium = shutil.which("chromium")
    assert chromium, "chromium is not installed"
    with tempfile.TemporaryDirectory() as folder, launch(Path(chromium)) as browser:
        server = Server(Path(folder) / "log")
        try:
            server.wait_until_ready()
            visitor = Visitor(browser, server, device_scale_factor=2).open()
            visitor.draw(THREE)
            visitor.hear("^3")
            shot = io.BytesIO(visitor.page.screenshot(animations="disabled"))
            Image.open(shot).quantize(96).save(target, optimize=True)
        finally:
            server.stop()


if __name__ == "__main__":
    save_screenshot(PAGE / "screenshot.png")
