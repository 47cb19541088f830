"""The pages in a headless Chromium: what a visitor sees and does."""

from __future__ import annotations

import importlib.util
import socket
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import uvicorn

from caloray.geometry import Geometry, Layer
from caloray.preprocess.condition_range import ConditionRange
from caloray.schemes.component import Sampled

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


class Tilted:
    """A Cartesian model of inclined particles at any temperature, with three layers of 5 x 4 voxels."""

    digest = "e" * 64
    geometry = Geometry(
        "tiles", "cartesian", tuple(Layer(i, tuple(range(-3, 3)), tuple(range(5))) for i in range(3))
    )
    energy_range = (1e3, 1e5)
    condition_names = ("direction_x", "direction_y", "direction_z", "temperature")
    conditions = (
        ConditionRange("direction_x", "1", -1.0, 1.0),
        ConditionRange("direction_y", "1", -1.0, 1.0),
        ConditionRange("direction_z", "1", 0.5, 1.0),
        ConditionRange("temperature", "K", 80.0, 120.0),
    )
    block_size = 256
    joint_sizes = (16, 256)

    def __init__(self):
        self.seen = []

    def make_pieces(self, pieces):
        self.seen += [piece.conditions[0].tolist() for piece in pieces]
        return [self._made(len(piece.energies), int(piece.seed)) for piece in pieces]

    def _made(self, rows, seed):
        values = np.arange(60, dtype=np.float32) + seed % 7
        return Sampled(np.where(np.arange(60) % 3, values, 0.0)[None].repeat(rows, 0), np.ones((rows, 3)))


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


def chosen(browser, name):
    """Choose a model of the list."""
    browser.run(
        "const list = document.getElementById('model'); list.value = arguments[0];"
        "list.dispatchEvent(new Event('change'))",
        name,
    )


def test_inclined_particles_in_a_cartesian_readout(browser, serve, bundle, local):
    """Several models to choose from; one of them has a direction, given as angles, and another condition."""
    tilted = Tilted()
    address = serve(local({"toy": bundle, "tilted": tilted}).client.app)
    browser.open(f"{address}/")
    browser.wait("!document.getElementById('result').hidden")
    assert not browser.run("return document.getElementById('model').disabled")
    assert browser.run("return document.getElementById('conditions').children.length") == 0
    chosen(browser, "tilted")
    names = "return [...document.querySelectorAll('#conditions input')].map((input) => input.id)"
    assert browser.run(names) == ["condition-temperature", "theta", "phi"]
    assert "Trained from 0.0 to 60.0 degrees" in browser.text("#theta-about")
    assert "[K]" in browser.text("#conditions label")
    browser.type("#condition-temperature", "90")
    browser.type("#theta", "30")
    browser.type("#phi", "90")
    found = make(browser, 4)
    assert found["Bundle"] == "e" * 12
    assert tilted.seen[-1] == pytest.approx([0.0, 0.5, 3**0.5 / 2, 90.0])
    browser.wait("document.querySelectorAll('#layers canvas').length === 3")
    for canvas in ("space", "profile", "layer"):
        assert browser.run(PAINTED, canvas) > 3, f"{canvas} is empty"
    chosen(browser, "toy")
    assert make(browser, 4)["Bundle"] == bundle.digest[:12]
    assert not browser.log()


def test_angles_outside_the_trained_range_are_not_sent(browser, serve, local):
    tilted = Tilted()
    browser.open(serve(local({"tilted": tilted}).client.app) + "/")
    browser.wait("!document.getElementById('result').hidden")
    asked = len(tilted.seen)
    browser.type("#theta", "61")
    assert not browser.run("return document.getElementById('form').checkValidity()")
    browser.click("#make")
    assert len(tilted.seen) == asked


def test_seeds_that_the_page_cannot_hold_are_not_sent(browser, address):
    """Numbers above 2^53 - 1 would be rounded on their way."""
    browser.open(f"{address}/")
    browser.wait("!document.getElementById('result').hidden")
    for seed, valid in (
        ("9007199254740991", True),
        ("9007199254740993", False),
        ("18446744073709551615", False),
    ):
        browser.type("#seed", seed)
        assert browser.run("return document.getElementById('seed').checkValidity()") is valid


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
