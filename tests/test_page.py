"""The page as people use it, in a real browser: what its own net says is what PyTorch says, and every part is live."""

import base64
import hashlib
import io
import itertools
import json
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, Page
from ruamel.yaml import YAML
from scipy import ndimage

from stages.common import idx
from stages.download import digit
from stages.net import description, exact, inference, model
from stages.report import embed
from tests.conftest import PROJECT, SECONDS, Clone
from tests.picture import draw
from tools import ink, predict

AXE = PROJECT / "tests/axe/node_modules/axe-core/axe.min.js"
TEST_IMAGES = "data/raw/MNIST/raw/t10k-images-idx3-ubyte"


@pytest.fixture(scope="module")
def tab(finished: Clone, browser: Browser) -> Iterator[Page]:
    """The page of the run on scikit-learn's digits. At its end it has said nothing and asked for nothing."""
    with opened(browser, finished) as tab:
        yield tab


class opened:  # noqa: N801 (used as a function)
    """A tab with the page of a clone; no console message and no request comes of what is done in it."""

    def __init__(self, browser: Browser, clone: Clone, name: str = "index.html", width: int = 1280):
        self.browser, self.path, self.width = browser, clone.path / "report" / name, width

    def __enter__(self) -> Page:
        self.tab = self.browser.new_page(viewport={"width": self.width, "height": 900})
        self.said: list[str] = []
        self.asked: list[str] = []
        self.tab.on("console", lambda message: self.said.append(message.text))
        self.tab.on("pageerror", lambda error: self.said.append(str(error)))
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.goto(self.path.as_uri())
        self.tab.evaluate("decoded.then(() => null)")
        return self.tab

    def __exit__(self, *error: object) -> None:
        self.tab.close()
        assert self.said == []
        assert [url for url in self.asked if not url.startswith("data:")] == [self.path.as_uri()]


def images_of(clone: Clone) -> np.ndarray:
    """Return the test images of `clone`."""
    return idx.read(clone.path / TEST_IMAGES)


def net_of(clone: Clone) -> torch.nn.Sequential:
    """Return the net that `clone` trained."""
    path = clone.path / model.MODEL
    return model.trained(model.parse(path.read_bytes(), str(path)))


def evaluated(clone: Clone) -> np.ndarray:
    """Return what evaluate wrote of each test image: actual, predicted, probability."""
    return np.genfromtxt(clone.path / "plots/predictions.csv", delimiter=",", names=True)


def encoded(images: np.ndarray) -> str:
    """Return bytes for the page."""
    return base64.b64encode(images.tobytes()).decode()


def logits_of(tab: Page, images: np.ndarray) -> np.ndarray:
    """Return the logits (n, 10) that the page's own function gives to `images` (n, 28, 28; bytes)."""
    script = """text => { const all = numbers(text, Uint8Array), logits = [];
        for (let at = 0; at < all.length; at += 784)
            logits.push(Array.from(forward(nets[chosen.net], all.subarray(at, at + 784)).at(-1).values));
        return logits; }"""
    return np.concatenate(
        [tab.evaluate(script, encoded(part)) for part in np.array_split(images, -(-len(images) // 500))]
    )


def check_logits(tab: Page, clone: Clone) -> None:
    """Check the logits of all test images against PyTorch's, and the classes against what evaluate wrote."""
    images = images_of(clone)
    with torch.inference_mode():
        expected = torch.cat(
            [net_of(clone)(inference.scaled(part)) for part in torch.from_numpy(images.copy()).split(500)]
        )
    logits = logits_of(tab, images)
    assert np.abs(logits - expected.numpy()).max() < 1e-3
    assert np.array_equal(logits.argmax(1), evaluated(clone)["predicted"])


def test_the_net_in_the_page_is_the_trained_one(tab: Page, finished: Clone) -> None:
    """All 500 test digits through the page's own function: evaluate's classes, and PyTorch's logits within 1e-3."""
    check_logits(tab, finished)


@pytest.mark.slow
def test_the_net_in_the_page_is_the_one_trained_on_mnist(browser: Browser, on_mnist: Clone) -> None:
    """The same for all 10,000 of MNIST; and the page has at most 1.5 MB."""
    assert (on_mnist.path / "report/index.html").stat().st_size < 1_500_000
    with opened(browser, on_mnist) as tab:
        check_logits(tab, on_mnist)
        check_digits(tab, on_mnist)


def test_a_large_net_leaves_room_for_fewer_greys() -> None:
    """The page has its images in 16 greys, beside a net of many parameters in 8."""
    images = torch.zeros(4, 28, 28, dtype=torch.uint8)
    for features, greys in ((100, 16), (200, 8)):
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, features), torch.nn.Linear(features, 10))
        used = embed.Net(net, embed.probabilities(net, images))
        assert embed.images(images, np.zeros(4, bool), [used])["greys"] == greys


def test_images_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more images than a page takes, it has the misclassified ones, exactly, and the first of the others."""
    monkeypatch.setattr(embed, "MOST_VALUES", 2 * 784)
    found = embed.images(torch.zeros(4, 28, 28, dtype=torch.uint8), np.arange(4) == 2, [])
    assert (found["rows"], found["exact"]) == ([0, 2], [1])


LISTS = [path for path in sorted(PROJECT.glob("recipes/*.yaml")) if "nets." not in path.read_text()]


@pytest.mark.parametrize("recipe", [path.stem for path in LISTS])
@pytest.mark.parametrize("rounded", [True, False])
def test_every_layer_is_what_pytorch_makes_it(tab: Page, finished: Clone, recipe: str, rounded: bool) -> None:
    """Each layer of each recipe, with random weights: the page's values equal PyTorch's, weights of 16 bits or 32."""
    net = description.build(
        YAML(typ="safe").load((PROJECT / f"recipes/{recipe}.yaml").read_text())["model"], {}, (1, 28, 28), 10
    )
    description.draw_weights(net, exact.generator(0, recipe))
    random = np.random.default_rng(0)
    for layer in net.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            layer.weight.data[0] = 0  # a channel that has died
        if isinstance(layer, torch.nn.BatchNorm2d):
            for values, low in (
                (layer.running_mean, -0.5),
                (layer.running_var, 0.5),
                (layer.weight, 0.5),
                (layer.bias, -1),
            ):
                assert values is not None
                values.data = torch.from_numpy(random.uniform(low, low + 1, len(values)).astype(np.float32))
            layer.running_var.data[0] = 1e-3  # so small that what PyTorch adds to it is seen
    net.eval()
    images = torch.from_numpy(images_of(finished)[:3].copy())
    predicted = embed.probabilities(net, images).argmax(1)
    described, used = embed.net(net, images, predicted if rounded else 9 - predicted)
    assert described["exact"] == (not rounded)
    seen = tab.evaluate(
        "([net, text]) => forward(decodeNet(net), numbers(text, Uint8Array)).map(m => [m.name, m.channels, m.height, "
        "m.width, ...m.values])",
        [described, encoded(images[0].numpy())],
    )
    values = inference.scaled(images[:1])
    with torch.inference_mode():
        for (name, layer), (found, *shape_and_values) in zip(used.net.named_children(), seen, strict=True):
            values = layer(values.clone())
            assert found == name
            shape, flat = shape_and_values[:3], np.array(shape_and_values[3:])
            assert shape == ([10, 1, 1] if name == "logits" else list(values.shape[1:]))
            assert np.abs(flat - values.numpy().ravel()).max() < 1e-4


def check_digits(tab: Page, clone: Clone) -> None:
    """Check the test digits in the page: what is misclassified exactly, all others closely, and the net's answers."""
    images = images_of(clone)
    text = tab.evaluate(
        """() => { let text = "", all = testImages;
        for (let at = 0; at < all.length; at += 784) text += String.fromCharCode(...all.subarray(at, at + 784));
        return btoa(text); }"""
    )
    digits = np.frombuffer(base64.b64decode(text), np.uint8)[: images.size].reshape(images.shape)
    exactly = tab.evaluate("data.images.exact")
    wrong = np.flatnonzero(evaluated(clone)["actual"] != evaluated(clone)["predicted"])
    assert set(wrong) <= set(exactly)
    assert np.array_equal(digits[exactly], images[exactly])
    assert np.abs(digits.astype(int) - images).max() <= 9  # half a step of 16 greys
    probability = embed.probabilities(net_of(clone), torch.from_numpy(digits.copy()))
    assert np.array_equal(probability.argmax(1), evaluated(clone)["predicted"])
    assert np.abs(probability.max(1) - evaluated(clone)["probability"]).max() < 0.0102  # of which 0.0001 is rounded


def test_the_test_digits_in_the_page(tab: Page, finished: Clone) -> None:
    """The misclassified ones are exact; of each, the net gives evaluate's class, and its probability to 0.01."""
    check_digits(tab, finished)


def test_a_click_on_each_cell(tab: Page, finished: Clone) -> None:
    """Each of the 100 cells shows as many digits as it counts, all of that label and that class, as each says."""
    rows = evaluated(finished)
    cells = tab.locator(".matrix button")
    assert cells.count() == 100
    for at in range(100):
        expected = np.flatnonzero((rows["actual"] == at // 10) & (rows["predicted"] == at % 10))
        cells.nth(at).click()
        titles = tab.locator("#digits button").evaluate_all("buttons => buttons.map(b => b.title)")
        assert titles == [f"no. {row}: label {at // 10}, predicted {at % 10}" for row in expected]
        assert cells.nth(at).inner_text() == (str(len(expected)) if len(expected) else "·")


def test_a_digit_is_changed(tab: Page, finished: Clone) -> None:
    """A click shows number, label and probabilities; with the eraser the answer turns, and undo brings it back."""
    row = int(np.flatnonzero((rows := evaluated(finished))["actual"] == 7)[0])
    tab.locator(".matrix tbody tr").nth(7).locator("button").nth(int(rows["predicted"][row])).click()
    tab.locator(f"#digits button[title^='no. {row}:']").click()
    about, answer, bars = (tab.locator(name) for name in ("#about", "#answer", "#bars"))
    assert about.inner_text().startswith(f"Test digit {row}: label 7.")
    before = answer.inner_text(), bars.inner_text()
    expected = torch.from_numpy(logits_of(tab, images_of(finished)[row : row + 1])).softmax(1)[0]
    shown = [float(text.rstrip("%")) / 100 for text in bars.locator("li span:last-child").all_inner_texts()]
    assert np.abs(np.array(shown) - expected.numpy()).max() < 0.012
    tab.locator("#erase").click()
    draw(tab, [(0.02, 0.5), (0.98, 0.5)])
    assert "changed" in about.inner_text()
    assert (answer.inner_text(), bars.inner_text()) != before
    draw(tab, [(x, y / 50) for y in range(1, 50) for x in (0.02, 0.98)])
    assert answer.inner_text() == "Draw a digit."
    tab.locator("#undo").click()
    assert bars.inner_text() != before[1]
    tab.locator("#undo").click()
    assert (answer.inner_text(), bars.inner_text()) == before
    tab.locator("#erase").click()
    tab.locator("#clear").click()
    assert answer.inner_text() == "Draw a digit."
    assert about.inner_text() == ""


def test_one_image_after_the_other(tab: Page) -> None:
    """Two buttons at the square go through the list, from its end to its start. Undo goes back, also over Clear."""

    def check(place: int) -> None:
        assert tab.locator("#about").inner_text().startswith(f"Test digit {rows[place]}:")
        assert tab.locator("#digits [aria-current]").get_attribute("data-row") == rows[place]

    tab.locator("#groups button").first.click()
    rows = tab.locator("#digits button").evaluate_all("all => all.map((button) => button.dataset.row)")
    tab.locator("#clear").click()
    draw(tab, [(0.3, 0.2), (0.3, 0.8)])
    drawn = tab.locator("#answer").inner_text()
    for button, place in (("next", 0), ("next", 1), ("previous", 0), ("previous", -1), ("next", 0)):
        tab.locator(f"#{button}").click()
        check(place)
    tab.locator("#clear").click()
    for place in (0, -1, 0, 1, 0):
        tab.locator("#square").press("Control+z")
        check(place)
    tab.locator("#undo").click()
    assert (tab.locator("#answer").inner_text(), tab.locator("#about").inner_text()) == (drawn, "")
    tab.locator("#clear").click()
    tab.locator(".matrix button", has_text="·").first.click()
    assert tab.locator("#next").is_disabled()


def test_a_click_is_a_dot(tab: Page) -> None:
    """A stroke of no length has ink, too, so that what undo takes back was to be seen."""
    tab.locator("#clear").click()
    tab.locator("#square").click()
    assert tab.locator("#answer").inner_text() != "Draw a digit."
    tab.locator("#undo").click()
    assert tab.locator("#answer").inner_text() == "Draw a digit."


@pytest.fixture
def firefox(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """A function that sends a command to a headless Firefox, in its protocol Marionette: Playwright has no Debian's."""
    if (program := shutil.which("firefox-esr")) is None:
        pytest.skip("needs Firefox: apt-get install firefox-esr")
    (tmp_path / "user.js").write_text('user_pref("marionette.port", 0);')  # one that is free
    command = [program, "--headless", "--marionette", "--profile", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        port = next(line.split()[-1] for line in process.stdout if "Listening on port" in line)
        with socket.create_connection(("127.0.0.1", int(port)), SECONDS) as connection:
            answers = connection.makefile("rb")

            def read() -> Any:
                return json.loads(answers.read(int(b"".join(iter(lambda: answers.read(1), b":")))))

            def send(name: str, **parameters: object) -> Any:
                content = json.dumps([0, 0, name, parameters])
                connection.sendall(f"{len(content)}:{content}".encode())
                *_, error, result = read()
                assert error is None, error
                return result.get("value")

            read()  # its greeting
            send("WebDriver:NewSession")
            yield send
    finally:
        process.terminate()
        process.wait(SECONDS)


def test_firefox(tab: Page, finished: Clone, firefox: Callable[..., Any]) -> None:
    """In Firefox, what the pointer draws has the probabilities that it has in Chromium, within a point."""
    points = [(0.3, 0.2), (0.7, 0.2), (0.6, 0.45), (0.45, 0.85)]
    tab.locator("#clear").click()
    draw(tab, points)
    firefox("WebDriver:Navigate", url=(finished.path / "report/index.html").as_uri())
    script = "const box = document.getElementById('square').getBoundingClientRect(); return [box.x, box.y, box.width];"
    left, top, width = firefox("WebDriver:ExecuteScript", script=script, args=[])
    places = [{"x": round(left + x * width), "y": round(top + y * width)} for x, y in points]
    moves = [{"type": "pointerMove", **place} for place in places]
    actions = [moves[0], {"type": "pointerDown", "button": 0}, *moves[1:], {"type": "pointerUp", "button": 0}]
    firefox("WebDriver:PerformActions", actions=[{"type": "pointer", "id": "mouse", "actions": actions}])
    script = "return [...document.querySelectorAll('#bars li')].map((bar) => bar.lastChild.innerText);"
    texts = firefox("WebDriver:ExecuteScript", script=script, args=[]), tab.evaluate(f"() => {{ {script} }}")
    shares = [[float(text.rstrip("%")) for text in of] for of in texts]
    assert max(shares[1]) > 50
    assert np.abs(np.subtract(*shares)).max() < 1
    tab.locator("#clear").click()


def test_undo_while_a_stroke_is_drawn(tab: Page) -> None:
    """What is drawn of it then, and its rest, are gone; the stroke before is as it was."""
    tab.locator("#clear").click()
    draw(tab, [(0.3, 0.2), (0.3, 0.8)])
    before = tab.evaluate("JSON.stringify(drawing.strokes)")
    box = tab.locator("#square").bounding_box()
    assert box is not None
    at = [(box["x"] + share * box["width"], box["y"] + box["height"] / 2) for share in (0.5, 0.6, 0.7)]
    tab.mouse.move(*at[0])
    tab.mouse.down()
    tab.mouse.move(*at[1])
    tab.locator("#square").press("Backspace")
    tab.mouse.move(*at[2])
    tab.mouse.up()
    assert tab.evaluate("JSON.stringify(drawing.strokes)") == before
    tab.locator("#clear").click()


def strokes_of(image: np.ndarray) -> list[list[tuple[float, float]]]:
    """Return strokes, as shares of the square, along the middle of the ink of `image` (28, 28; bytes)."""
    large = ndimage.zoom(image.astype(float), 2, order=1) > 110
    skeleton = thinned(np.pad(large, 1))
    left = set(zip(*np.nonzero(skeleton), strict=True))
    strokes = []
    while left:
        ends = [at for at in left if len(near(at) & left) == 1]
        at = min(ends or left)
        path = [at]
        left.discard(at)
        while following := near(at) & left:
            at = min(following, key=lambda to: (abs(to[0] - at[0]) + abs(to[1] - at[1]), to))
            path.append(at)
            left.discard(at)
        strokes.append([((x - 0.5) / 56, (y - 0.5) / 56) for y, x in [*path[:-1:4], path[-1]]])
    return [stroke for stroke in strokes if len(stroke) > 2] or strokes


def near(at: tuple[int, int]) -> set[tuple[int, int]]:
    """Return the eight neighbours of the pixel `at`."""
    return {(at[0] + y, at[1] + x) for y in (-1, 0, 1) for x in (-1, 0, 1)} - {at}


def thinned(ink: np.ndarray) -> np.ndarray:
    """Return the middle lines of `ink` (height, width; bool), one pixel wide (Zhang and Suen 1984)."""
    ink, changed = ink.copy(), True
    while changed:
        changed = False
        for first in (True, False):
            around = [np.roll(ink, shift, (0, 1)) for shift in
                      ((1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1))]  # fmt: skip
            up, _, right, _, down, _, left, _ = around
            count = np.sum(around, axis=0)
            turns = sum((~one & two).astype(int) for one, two in zip(around, [*around[1:], around[0]], strict=True))
            corner = (
                ~(up & right & down) & ~(right & down & left) if first else ~(up & right & left) & ~(up & down & left)
            )
            gone = ink & (count >= 2) & (count <= 6) & (turns == 1) & corner
            changed |= bool(gone.any())
            ink &= ~gone
    return ink


@pytest.mark.slow
def test_a_hundred_drawn_digits(browser: Browser, on_mnist: Clone, tmp_path: Path) -> None:
    """The strokes of 100 test digits, drawn with the pointer: the page answers as `predict` does for their picture."""
    answers = []
    with opened(browser, on_mnist) as tab:
        for at, image in enumerate(images_of(on_mnist)[:100]):
            if at == 10:  # from here on at the end of each stroke alone: an answer in each frame takes a minute
                tab.evaluate("() => { requestAnimationFrame = () => 0; }")
            tab.locator("#clear").click()
            for points in strokes_of(image):
                draw(tab, points)
            answers.append(tab.locator("#answer").inner_text())
            content = tab.evaluate("square.toDataURL('image/png').split(',')[1]")
            (tmp_path / f"{at:02}.png").write_bytes(base64.b64decode(content))
    said = json.loads(on_mnist.run("python", "-m", "tools.predict", "--json", str(tmp_path), status=None).stdout)
    assert len(said) == 100
    for answer, predicted in zip(answers, said, strict=True):
        if "error" in predicted:
            assert answer.startswith(("No clear digit", "2 separate marks")), (answer, predicted)
        else:
            assert answer.startswith(f"{predicted['digit']}, with"), (answer, predicted)
    assert sum("error" in predicted for predicted in said) < 20


def test_a_picture_becomes_a_digit_as_in_the_pipeline(tab: Page) -> None:
    """Random ink of many shapes: the page's 28 x 28 bytes are those of stages/download/digit.py.

    Pillow takes rows before columns or columns before rows, by a rule of its own; the page takes rows first. Where they
    differ, the bytes in between are rounded in another order, and a grey of 255 may be another by 4.
    """
    random = np.random.default_rng(0)
    for height, width in [(5, 5), (1, 9), (300, 40), (41, 300), (123, 200), (560, 560), (20, 13), (77, 8)]:
        noise = ndimage.gaussian_filter(random.random((height, width)), (height / 20, width / 20))
        drawn = (255 * np.clip((noise - np.median(noise)) / np.ptp(noise) * 4, 0, 1)).astype(np.uint8)
        drawn[0, :], drawn[-1, :], drawn[:, 0], drawn[:, -1] = 200, 150, 100, 250
        expected = digit.as_mnist(drawn)
        expected = (expected * (255 / expected.max())).astype(np.uint8)
        seen = tab.evaluate(
            "([text, height, width]) => Array.from(asMnist({ink: numbers(text, Float64Array), height, width}))",
            [encoded(drawn.astype(float)), height, width],
        )
        difference = np.abs(np.array(seen).reshape(28, 28) - expected.astype(int)).max()
        assert difference <= (4 if height > 2 * width else 0), (height, width)


def test_what_is_no_digit(tab: Page) -> None:
    """An empty square, two marks side by side, a line across, a low probability: it says so, by predict's rules."""
    answer = tab.locator("#answer")
    tab.locator("#clear").click()
    assert answer.inner_text() == "Draw a digit."
    draw(tab, [(0.15, 0.2), (0.15, 0.8)])
    draw(tab, [(0.85, 0.2), (0.85, 0.8)])
    assert answer.inner_text() == "2 separate marks. Draw one digit."
    tab.locator("#undo").click()
    assert "separate" not in answer.inner_text()
    tab.locator("#clear").click()
    draw(tab, [(0.15, 0.5), (0.85, 0.5)])
    assert answer.inner_text() == "No clear digit: too wide."
    tab.locator("#clear").click()
    unsure = [0.1, 0.79, 0.11, *[0] * 7]
    assert (
        tab.evaluate("unsure => answerOf(unsure, {height: 9, width: 9})", unsure)
        == "No clear digit: most like 1, 79.0%."
    )
    assert tab.evaluate("[INK / 255, DIRT, WIDEST, CLEAR]") == [ink.INK, ink.DIRT, predict.WIDEST, predict.CLEAR]


def test_what_was_said_is_not_said_again(tab: Page) -> None:
    """While the answer stays the same, nothing changes where a screen reader listens."""
    tab.locator("#clear").click()
    tab.evaluate(
        """() => { window.said = [];
        window.listener = new MutationObserver((changes) => said.push(...changes.map((of) => of.target.id)));
        listener.observe(document.querySelector("[role=status]"), { childList: true, subtree: true }); }"""
    )
    tab.locator("#square").focus()
    tab.keyboard.press("ArrowDown")
    assert tab.evaluate("new Promise((after) => setTimeout(() => after(said)))") == []
    tab.keyboard.press(" ")
    assert "answer" in tab.evaluate("new Promise((after) => setTimeout(() => after(said)))")
    tab.evaluate("listener.disconnect()")
    tab.locator("#clear").click()


def test_the_page_on_paper(browser: Browser, finished: Clone) -> None:
    """What one can only use on a screen is not printed; each matrix is."""
    tab = browser.new_page()
    tab.goto((finished.path / "report/index.html").as_uri())
    tab.emulate_media(media="print")
    for name, shown in ((".tools", False), ("#keys", False), (".values", False), ("summary", False), (".matrix", True)):
        assert [of.is_visible() for of in tab.locator(name).all()] == [shown] * tab.locator(name).count()
        assert tab.locator(name).count()
    tab.close()


def test_the_keyboard_draws(tab: Page) -> None:
    """Without a mouse: arrows move, space puts the pen down; the arrow keys go through cells and digits, too."""
    tab.locator("#square").focus()
    for key in [" ", *["ArrowDown"] * 10, " "]:
        tab.keyboard.press(key)
    assert "1" in tab.locator("#answer").inner_text()
    for key in [*["ArrowRight"] * 6, " ", *["ArrowUp"] * 4]:
        tab.keyboard.press(key)
    assert tab.evaluate("drawing.strokes.length") == 2
    before = tab.evaluate("JSON.stringify(drawing.strokes[0])")
    tab.keyboard.press("Backspace")  # the pen is down
    tab.keyboard.press("ArrowLeft")
    assert tab.evaluate("JSON.stringify(drawing.strokes[0])") == before
    tab.keyboard.press("Backspace")
    assert tab.locator("#answer").inner_text() == "Draw a digit."
    first = tab.locator(".matrix button").first
    first.focus()
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Enter")
    assert tab.locator("#digits-title").inner_text().startswith("label 1, predicted 1")
    tab.locator(".matrix button").nth(37).click()
    tab.keyboard.press("ArrowDown")
    assert tab.locator(".matrix [tabindex='0']").count() == 1


def test_the_arrow_keys_go_from_row_to_row_of_the_digits(tab: Page) -> None:
    """Down and up go to the image straight below and above."""
    tab.locator(".matrix button.right").first.click()
    third = tab.locator("#digits button").nth(2)
    third.focus()
    for key, rows in (("ArrowDown", 1), ("ArrowDown", 2), ("ArrowUp", 1), ("ArrowUp", 0)):
        tab.keyboard.press(key)
        box, start = tab.locator("#digits :focus").bounding_box(), third.bounding_box()
        assert box is not None
        assert start is not None
        assert (box["x"], box["y"]) == (start["x"], start["y"] + rows * (start["height"] + 2))


def test_what_is_chosen_is_marked(tab: Page, finished: Clone) -> None:
    """A cell while its images are shown, an image while it is in the square. An image says what evaluate says."""
    rows = evaluated(finished)
    cell, pressed = tab.locator(".matrix button.right").nth(3), tab.locator(".matrix [aria-pressed=true]")
    cell.click()
    assert pressed.count() == 1
    least = np.flatnonzero((rows["actual"] == 3) & (rows["predicted"] == 3))
    row = least[rows["probability"][least].argmin()]
    tab.locator(f"#digits button[title^='no. {row}:']").click()
    assert tab.locator("#digits [aria-current]").get_attribute("title") == f"no. {row}: label 3, predicted 3"
    assert tab.evaluate("unsure => answerOf(unsure, seen())", [0.1, 0.2, 0, 0.7, *[0] * 6]) == "3, with 70.0%."
    tab.locator("#clear").click()
    assert tab.locator("#digits [aria-current]").count() == 0
    tab.locator("#groups button").first.click()
    assert pressed.count() == 0


def test_a_phone(browser: Browser, finished: Clone) -> None:
    """One finger draws, and a second one changes nothing; a tap on a chart shows its values.

    A touch beside a mouse or a pen changes nothing either. The answer is straight below the square.
    """
    tab = browser.new_page(viewport={"width": 390, "height": 844}, has_touch=True)
    said: list[str] = []
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.goto((finished.path / "report/index.html").as_uri())
    tab.locator("#square").scroll_into_view_if_needed()
    box, heading = tab.locator("#square").bounding_box(), tab.locator("#try h2").bounding_box()
    assert box is not None
    assert heading is not None
    at = [{"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]} for x, y in ((0.3, 0.2), (0.3, 0.7))]
    other = [{"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]} for x, y in ((0.8, 0.2), (0.8, 0.7))]
    client = tab.context.new_cdp_session(tab)

    def touch(kind: str, *points: dict[str, float]) -> None:
        touches = [{**point, "id": number} for number, point in enumerate(points)]
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

    touch("touchStart", at[0])
    touch("touchStart", at[0], other[0])
    touch("touchMove", at[1], other[1])
    touch("touchEnd")
    points = tab.evaluate("drawing.strokes.map(({ points }) => points.map(([x, y]) => [x / WIDTH, y / WIDTH]))")
    assert np.abs(np.array(points) - [[(0.3, 0.2), (0.3, 0.7)]]).max() < 0.01
    resting = {"x": heading["x"] + 5, "y": heading["y"] + 5}
    touch("touchStart", resting)
    touch("touchStart", resting, at[0])
    touch("touchMove", resting, at[1])
    touch("touchEnd")
    assert tab.evaluate("drawing.strokes.length") == 1
    tab.mouse.move(at[0]["x"], at[0]["y"])
    tab.mouse.down()
    touch("touchStart", other[0])
    touch("touchMove", other[1])
    touch("touchEnd")
    tab.mouse.move(at[1]["x"], at[1]["y"])
    tab.mouse.up()
    points = tab.evaluate("drawing.strokes.map(({ points }) => points.map(([x, y]) => [x / WIDTH, y / WIDTH]))")
    assert np.abs(np.array(points) - [[(0.3, 0.2), (0.3, 0.7)]] * 2).max() < 0.01
    touch("touchStart", other[0])
    for kind, point in (("mousePressed", at[0]), ("mouseMoved", at[1]), ("mouseReleased", at[1])):
        client.send("Input.dispatchMouseEvent", {"type": kind, "button": "left", "pointerType": "pen", **point})
    touch("touchMove", other[1])
    touch("touchEnd")
    points = tab.evaluate("drawing.strokes.at(-1).points.map(([x, y]) => [x / WIDTH, y / WIDTH])")
    assert np.abs(np.array(points) - [(0.3, 0.2), (0.3, 0.7)]).max() < 0.01
    answer = tab.locator("#answer").bounding_box()
    assert answer is not None
    assert 0 < answer["y"] - box["y"] - box["height"] < 20
    for chart in tab.locator("figure.chart").all():
        chart.locator("svg").tap()
        assert "Point at" not in chart.locator("output").inner_text()
    tab.close()
    assert said == []


def test_long_names_of_classes(browser: Browser, finished: Clone, tmp_path: Path) -> None:
    """On a phone, the number of each cell fits into the cell, also beside names such as Fashion-MNIST's."""
    names = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
    text = (finished.path / "report/index.html").read_text()
    digits = json.dumps([str(name) for name in range(10)], separators=(",", ":"))
    assert text.count(digits) == 1
    (tmp_path / "index.html").write_text(text.replace(digits, json.dumps(names)))
    tab = browser.new_page(viewport={"width": 390, "height": 844})
    tab.goto((tmp_path / "index.html").as_uri())
    assert tab.locator(".matrix tbody th").all_inner_texts() == names
    tab.locator(".matrix button").evaluate_all("cells => cells.forEach((cell) => (cell.textContent = '970'))")
    wide = tab.locator(".matrix button").evaluate_all("cells => cells.map((of) => [of.scrollWidth, of.offsetWidth])")
    assert all(text <= cell for text, cell in wide)
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    tab.close()


def test_colours_that_the_system_chooses(browser: Browser, finished: Clone) -> None:
    """With forced colours, the bars of the probabilities are still there, and the edge of the square to draw in."""
    tab = browser.new_page(forced_colors="active")
    tab.goto((finished.path / "report/index.html").as_uri())
    edge = np.asarray(Image.open(io.BytesIO(tab.locator("#square").screenshot())).convert("L")).astype(int)[200, :20]
    assert np.ptp(edge) > 60
    tab.locator("#digits button").first.click()
    pixels = np.asarray(Image.open(io.BytesIO(tab.locator("#bars .most .bar").screenshot())).convert("RGB")).astype(int)
    assert np.ptp(pixels, axis=2).max() > 60
    tab.close()


def test_a_chart_of_many_classes_and_one_without_errors(tab: Page) -> None:
    """The bars of 26 classes stand side by side, and an error rate of 0 is drawn at the axis, which says 0%."""
    bars = tab.evaluate(
        """() => { const points = Array.from({ length: 26 }, (_, x) => ({ x, y: 0.1, values: {} }));
        const series = ["one", "two"].map((name) => ({ name, kind: "bars", points }));
        const drawn = chart({ title: "", series, x: { label: "" }, y: { label: "", from: 0 } });
        const placeOf = (bar) => [bar.x.baseVal.value, bar.width.baseVal.value];
        return [...drawn.querySelectorAll(".series rect")].map(placeOf); }"""
    )
    ends = sorted((left, left + width) for left, width in bars)
    assert len(ends) == 52
    assert all(right <= left for (_, right), (left, _) in itertools.pairwise(ends))
    heights = tab.evaluate(
        """() => { const points = [0.5, 0.1, 0].map((y, x) => ({ x, y, values: {} }));
        const drawn = chart({ title: "", series: [{ name: "", kind: "line", points }], x: { label: "" }, y: ERROR });
        const ticks = [...drawn.querySelectorAll("text")].filter((of) => of.textContent.endsWith("%"));
        const places = Object.fromEntries(ticks.map((of) => [of.textContent, of.y.baseVal[0].value - 4]));
        return [places, ...[...drawn.querySelectorAll(".series circle")].map((of) => of.cy.baseVal.value)]; }"""
    )
    places, *heights = heights
    assert heights[0] < heights[1] < heights[2] == 290 - 46
    assert heights[1:] == [places["10%"], places["0%"]]
    assert all(high <= 290 - 46 - 20 for text, high in places.items() if text != "0%")


def test_a_chart_of_equal_values(tab: Page) -> None:
    """Its axis names the one value, and no other such as 200%."""
    ticks = tab.evaluate(
        """() => { const points = [0, 1].map((x) => ({ x, y: 1, values: {} }));
        const series = [{ name: "", kind: "dots", points }];
        const drawn = chart({ title: "", series, x: { label: "" }, y: { label: "", text: tick } });
        return [...drawn.querySelectorAll("text")].map((of) => of.textContent).filter((text) => /%/.test(text)); }"""
    )
    assert ticks == ["100%"]


def test_values_are_under_the_pointer(tab: Page, finished: Clone) -> None:
    """Each chart says the values of the mark that is pointed at; the same values stand in its table."""
    charts = tab.locator("figure.chart")
    assert charts.count() == 5
    for at in range(5):
        chart = charts.nth(at)
        chart.locator("svg").hover()
        said = chart.locator("output").inner_text().split(", ")
        cells = [" ".join(cell.split()) for cell in chart.locator("td").all_text_contents()]
        assert len(said) > 2
        assert any(said[-1].endswith(cell) for cell in cells if cell), (said, cells)
    assert charts.nth(0).locator("tbody tr").count() == 10
    for label in (2, 9):
        charts.nth(0).locator(".series circle").nth(label).hover(force=True)
        assert f"class {label}," in charts.nth(0).locator("output").inner_text()


def test_the_policy_holds(browser: Browser, finished: Clone) -> None:
    """Only the page's own script and style run: an added script, an inline handler and a request are refused."""
    tab = browser.new_page()
    tab.goto((finished.path / "report/index.html").as_uri())
    policy = tab.locator("meta[http-equiv]").get_attribute("content")
    assert policy is not None
    assert "unsafe" not in policy
    tab.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.bad = 1'}))"
    )
    tab.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=\"data:,\" onerror=\"window.bad = 1\">')")
    assert tab.evaluate("fetch('http://localhost:9/').then(() => 'sent', () => 'refused')") == "refused"
    tab.evaluate("new Promise(requestAnimationFrame)")
    assert tab.evaluate("window.bad") is None
    tab.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_axe_finds_nothing(browser: Browser, finished: Clone, width: int, scheme: str) -> None:
    """axe-core's rules of accessibility, with a digit drawn and a cell chosen: no violation."""
    if not AXE.exists():
        pytest.skip("needs axe-core: npm ci --prefix tests/axe --ignore-scripts")
    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab.goto((finished.path / "report/index.html").as_uri())
    tab.locator(".matrix button.right").first.click()
    tab.locator("#digits button").first.click()
    tab.locator("summary").first.click()
    tab.evaluate(AXE.read_text())
    found = tab.evaluate("axe.run().then(result => result.violations)")
    assert [(of["id"], [node["html"][:120] for node in of["nodes"]][:3]) for of in found] == []
    tab.close()


def test_the_answer_comes_at_once(tab: Page) -> None:
    """When a stroke ends, the answer and the bars are those of the whole stroke, though no frame was drawn since."""
    shown = "(document.getElementById('answer').innerText + document.getElementById('bars').innerText)"
    tab.locator("#clear").click()
    tab.evaluate(f"() => addEventListener('pointerup', () => (window.atOnce = {shown}), {{once: true}})")
    tab.evaluate("() => { window.frame = requestAnimationFrame; window.kept = []; }")
    tab.evaluate("() => { requestAnimationFrame = (later) => kept.push(later); }")
    draw(tab, [(0.3, 0.3), (0.6, 0.35), (0.5, 0.8)])
    tab.evaluate("() => { requestAnimationFrame = frame; kept.forEach((later) => later()); }")
    assert "%" in tab.evaluate("atOnce")
    assert tab.evaluate("atOnce") == tab.evaluate(f"(update(), {shown})")
    tab.locator("#clear").click()


@pytest.mark.slow
def test_the_same_page_from_run_to_run(finished: Clone, tmp_path: Path) -> None:
    """The stage, run again in a copy at another place, writes the same bytes."""
    clone = finished.copy(tmp_path / "clone")
    (clone.path / "report/index.html").unlink()
    clone.run("python", "-m", "stages.report")
    pages = [(of.path / "report/index.html").read_bytes() for of in (finished, clone)]
    assert hashlib.sha256(pages[0]).digest() == hashlib.sha256(pages[1]).digest()
