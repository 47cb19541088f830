"""The pages in a headless Chromium: what a visitor sees and does."""

from __future__ import annotations

import importlib.util
import socket
import sys
import threading
from pathlib import Path

import pytest
import uvicorn

TOKEN = "a-token-of-20-letters"
PAINTED = """
const canvas = document.getElementById(arguments[0]);
const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
return new Set(new Uint32Array(data.buffer)).size;
"""


def load_driver():
    path = Path(__file__).with_name("browser.py")
    spec = importlib.util.spec_from_file_location("serving_browser", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["serving_browser"] = module
    spec.loader.exec_module(module)
    return module


driver = load_driver()
pytestmark = pytest.mark.skipif(
    not (driver.DRIVER and driver.BINARY),
    reason="no chromium and chromedriver: apt-get install chromium chromium-driver",
)


@pytest.fixture(scope="module")
def serve():
    """Run applications on ports of their own."""
    servers = []

    def start(app):
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for server, thread in servers:
        server.should_exit = True
        thread.join(30)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    found = driver.Browser(tmp_path_factory.mktemp("chromium"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def address(serve, bundle, local):
    return serve(local({"toy": bundle}).client.app)


def facts(browser):
    names = browser.run("return [...document.querySelectorAll('#facts dt')].map((e) => e.textContent)")
    values = browser.run("return [...document.querySelectorAll('#facts dd')].map((e) => e.textContent)")
    return dict(zip(names, values, strict=True))


def make(browser, seed):
    browser.run("document.getElementById('facts').replaceChildren()")
    browser.type("#seed", str(seed))
    browser.click("#make")
    browser.wait("document.querySelectorAll('#facts dd').length")
    found = facts(browser)
    del found["Answer took"]
    return found


def test_a_visitor_sees_a_shower(browser, address, bundle):
    browser.open(f"{address}/")
    browser.wait("!document.getElementById('result').hidden")
    found = facts(browser)
    assert found["Bundle"] == bundle.digest[:12]
    assert found["Incident energy"].endswith("GeV")
    browser.wait("document.getElementById('space').width > 300")
    for canvas in ("space", "profile", "layer", "bar"):
        assert browser.run(PAINTED, canvas) > 3, f"{canvas} is empty"
    assert browser.run("return document.querySelectorAll('#layers canvas').length") == 3
    assert "voxels in space" in browser.run("return document.getElementById('space').ariaLabel")
    assert not browser.log()


def test_same_seed_same_shower(browser, address):
    browser.open(f"{address}/")
    browser.wait("!document.getElementById('result').hidden")
    one, other, again = make(browser, 1), make(browser, 2), make(browser, 1)
    assert one == again
    assert one != other


def test_layers_can_be_chosen(browser, address):
    browser.open(f"{address}/")
    browser.wait("document.querySelectorAll('#layers button').length")
    browser.click("#layers button:nth-child(3)")
    assert browser.text("#layer-facts").startswith("Layer 2:")
    assert browser.run("return document.querySelector('#layers button:nth-child(3)').ariaPressed") == "true"


def test_nothing_comes_from_elsewhere(browser, address):
    for path in ("/", "/docs"):
        browser.open(address + path)
        browser.wait("document.readyState === 'complete'")
        used = browser.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
        assert used
        assert all(name.startswith(address) for name in used)


def test_problems_are_shown(browser, address):
    browser.open(f"{address}/")
    browser.wait("!document.getElementById('result').hidden")
    browser.run("document.getElementById('energy').removeAttribute('max')")
    browser.type("#energy", "123456")
    browser.click("#make")
    browser.wait("!document.getElementById('problem').hidden")
    assert "outside the trained range" in browser.text("#problem")
    assert "CR-100" in browser.text("#problem")
    browser.log()


def test_a_token_is_asked_for(browser, serve, bundle, local):
    address = serve(local({"toy": bundle}, token=TOKEN).client.app)
    browser.open(f"{address}/")
    browser.wait("!document.getElementById('problem').hidden")
    assert "CR-610" in browser.text("#problem")
    browser.type("#token", TOKEN)
    browser.click("#make")
    browser.wait("!document.getElementById('result').hidden")
    assert browser.run("return document.getElementById('problem').hidden")
    browser.log()


def test_the_interface_is_laid_out(browser, address):
    browser.open(f"{address}/docs")
    browser.wait("document.querySelectorAll('#types article').length")
    text = browser.text("main")
    for word in (
        "/v1/showers",
        "/v1/models",
        "ShowerRequest",
        "energies *",
        "Retry-After",
        f"curl {address}",
    ):
        assert word in text, word
    assert not browser.log()
