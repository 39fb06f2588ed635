"""A headless Chromium under control of a test, by its DevTools protocol."""

import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.census import MARK
from websockets.sync.client import ClientConnection, connect

PATH = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
    None,
)
NEEDS_BROWSER = pytest.mark.skipif(
    PATH is None, reason="no Chromium here: apt-get install chromium"
)
PATIENCE = 30.0  # seconds; a browser on a busy machine is slow to start
REBOUND = "rebound.example"  # a name that the browser resolves to 127.0.0.1
_OPTIONS = (
    "--headless",
    "--no-sandbox",  # containers and root have no namespaces for it
    "--disable-dev-shm-usage",  # /dev/shm is the tests'
    "--disable-gpu",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
    f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1",
)
_KEYS = {"Enter": 13, "Escape": 27, "ArrowDown": 40, "ArrowUp": 38, "Tab": 9}


class Tab:
    """One page of the browser. Its errors, and what its policy refused, are kept."""

    def __init__(self, socket: ClientConnection, session: str) -> None:
        self._socket = socket
        self._session = session
        self._number = 0
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def open(self, url: str) -> None:
        self._call("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete'")

    def js(self, expression: str) -> Any:
        """Return the value of an expression."""
        done = self._call(
            "Runtime.evaluate",
            expression=expression,
            returnByValue=True,
            awaitPromise=True,
        )
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def wait_for(self, expression: str, patience: float = PATIENCE) -> Any:
        """Return the first true value of an expression."""
        deadline = time.monotonic() + patience
        while not (value := self.js(expression)):
            assert time.monotonic() < deadline, (
                expression,
                self.js("document.body.innerText"),
                self.complaints,
            )
            time.sleep(0.05)
        return value

    def text(self, selector: str) -> str:
        found = self.js(f"document.querySelector({json.dumps(selector)}).innerText")
        return str(found)

    def press(self, key: str) -> None:
        """Press a key: a character, or one that has a name."""
        code = _KEYS.get(key, 0)
        told: dict[str, Any] = {"key": key, "windowsVirtualKeyCode": code}
        if len(key) == 1:
            told["text"] = key
        elif key == "Enter":
            told["text"] = "\r"
        self._call("Input.dispatchKeyEvent", type="keyDown", **told)
        self._call("Input.dispatchKeyEvent", type="keyUp", **told)

    def write(self, text: str) -> None:
        self._call("Input.insertText", text=text)

    def resize(self, width: int, height: int, scale: float = 1.0) -> None:
        """Show the page in a window of this size; a narrow one is a phone's."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 500,
        )

    def prefer(self, scheme: str) -> None:
        """Prefer `light` or `dark`."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self._call("Emulation.setEmulatedMedia", features=[feature])

    def run_first(self, script: str) -> None:
        """Run a script in the pages that are opened from now on, before their own."""
        self._call("Page.addScriptToEvaluateOnNewDocument", source=script)

    def disable_scripts(self) -> None:
        """Run no script of the pages that are opened from now on."""
        self._call("Emulation.setScriptExecutionDisabled", value=True)

    def screenshot(self, path: Path) -> None:
        done = self._call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(done["data"]))

    def close(self) -> None:
        self._call("Page.close")

    def _call(self, method: str, **params: Any) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        self._socket.send(json.dumps(message | {"sessionId": self._session}))
        while True:
            answer = json.loads(self._socket.recv(timeout=PATIENCE))
            if answer.get("sessionId") != self._session:
                continue
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self._note(answer.get("method"), answer.get("params", {}))

    def _note(self, event: str | None, params: dict[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"]))
        elif event == "Log.entryAdded" and params["entry"]["level"] == "error":
            entry = params["entry"]
            self.complaints.append(f"{entry['text']} {entry.get('url', '')}")


class Browser:
    """A running Chromium. Its tabs share what tabs of one profile share."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0

    def tab(self) -> Tab:
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        found = self._call("Target.attachToTarget", targetId=target, flatten=True)
        return Tab(self._socket, found["sessionId"])

    def _call(self, method: str, **params: Any) -> Any:
        self._number += 1
        number = 1_000_000 + self._number
        message = {"id": number, "method": method, "params": params}
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(timeout=PATIENCE))
            if answer.get("id") == number:
                return answer["result"]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a browser with a profile of its own; end it, and all its processes."""
    assert PATH is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [PATH, *_OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        # Renderers come and go by themselves: a test's census counts the browser alone.
        environ = {name: os.environ[name] for name in os.environ if name != MARK}
        process = subprocess.Popen(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a group that ends as a whole
        )
        try:
            url = _address(Path(profile), process)
            with connect(url, max_size=None, open_timeout=PATIENCE) as socket:
                yield Browser(socket)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _address(profile: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + PATIENCE
    told = profile / "DevToolsActivePort"
    while True:
        lines = told.read_text().splitlines() if told.exists() else []
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        assert process.poll() is None, "Chromium has ended"
        assert time.monotonic() < deadline, "Chromium does not listen"
        time.sleep(0.05)
