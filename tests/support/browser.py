"""A headless Chromium for tests of pages, spoken to by WebDriver (https://www.w3.org/TR/webdriver2/)."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["HAS_BROWSER", "Browser"]

HAS_BROWSER = bool(shutil.which("chromedriver") and shutil.which("chromium"))

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key by which WebDriver names an element


class Browser:
    """One window; a context manager.

    Args:
        width: of the window, in pixels of the screen.
        height: of the window.
    """

    def __init__(self, width: int = 1200, height: int = 800) -> None:
        self._driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
        assert self._driver.stdout is not None
        for line in self._driver.stdout:
            if found := re.search(r"started successfully on port (\d+)", line):
                self._address = f"http://127.0.0.1:{found[1]}"
                break
        arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--force-device-scale-factor=1",
        ]
        arguments += [f"--window-size={width},{height}"]
        wanted = {
            "browserName": "chrome",
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {"args": arguments, "binary": shutil.which("chromium")},
        }
        made = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"/session/{made['sessionId']}"

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._ask("DELETE", self._session)
        finally:
            self._driver.terminate()
            self._driver.wait()
            assert self._driver.stdout is not None
            self._driver.stdout.close()

    def open(self, path: Path) -> None:
        """Show a file."""
        self._ask("POST", f"{self._session}/url", {"url": path.resolve().as_uri()})

    def run(self, script: str, *values: Any) -> Any:
        """What a function of this body returns; a promise is waited for."""
        return self._ask("POST", f"{self._session}/execute/sync", {"script": script, "args": list(values)})

    def pretend(self, width: int, height: int, *, dark: bool = False) -> None:
        """Be a screen of this size, in pixels, of a user who wants dark colours or light ones."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        wish = {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]}
        for command, values in (("setDeviceMetricsOverride", size), ("setEmulatedMedia", wish)):
            self._ask("POST", f"{self._session}/goog/cdp/execute", {"cmd": f"Emulation.{command}", "params": values})
        self.settled()

    def settled(self) -> None:
        """Wait until the page has drawn what was asked for."""
        self.run(
            "return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 50))))"
        )

    def text(self, selector: str) -> str:
        """The text of the first element that fits."""
        return str(self.run("return document.querySelector(arguments[0]).textContent", selector))

    def click(self, selector: str) -> None:
        """Click the first element that fits, as a user would."""
        element = self._ask("POST", f"{self._session}/element", {"using": "css selector", "value": selector})
        self._ask("POST", f"{self._session}/element/{element[_ELEMENT]}/click", {})
        self.settled()

    def press(self, selector: str, keys: str) -> None:
        """Type into the first element that fits; special keys as WebDriver numbers them, such as ``\\ue014``."""
        element = self._ask("POST", f"{self._session}/element", {"using": "css selector", "value": selector})
        self._ask("POST", f"{self._session}/element/{element[_ELEMENT]}/value", {"text": keys})
        self.settled()

    def point(self, *fingers: list[tuple[float, float]], kind: str = "mouse") -> None:
        """Press at the first place of each finger (pixels of the window), move along the others, let go."""
        actions = []
        for number, places in enumerate(fingers):
            moves = [
                {"type": "pointerMove", "duration": 20 if k else 0, "x": round(x), "y": round(y)}
                for k, (x, y) in enumerate(places)
            ]
            steps = [moves[0], {"type": "pointerDown", "button": 0}, *moves[1:], {"type": "pointerUp", "button": 0}]
            one = {"type": "pointer", "id": f"{kind}{number}", "parameters": {"pointerType": kind}, "actions": steps}
            actions.append(one)
        self._ask("POST", f"{self._session}/actions", {"actions": actions})
        self.settled()

    def picture(self) -> bytes:
        """The window as PNG."""
        return base64.b64decode(self._ask("GET", f"{self._session}/screenshot"))

    def messages(self) -> list[str]:
        """What the page wrote to its console since this was last asked, errors among it."""
        return [one["message"] for one in self._ask("POST", f"{self._session}/se/log", {"type": "browser"})]

    def _ask(self, method: str, path: str, content: dict[str, Any] | None = None) -> Any:
        data = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(
            self._address + path, data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {error.read().decode()[:500]}") from None
