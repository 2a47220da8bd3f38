"""The page, in a real browser: self-contained, legible on a phone and in the dark; and the numbers it shows."""

import csv
import dataclasses
import html
import io
import json
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser

from stages.common import raw, settings
from stages.evaluate import main as evaluate
from stages.evaluate.main import calibration, expected_calibration_error, wilson
from stages.net import exact, inference, model
from stages.report import comparison, embed, facts, main, pictures, runs, studies
from stages.report.main import page
from tests.conftest import PROJECT, Clone

MOST = 1_500_000  # bytes of a page


def look(browser: Browser, page: Path, width: int, scheme: str) -> str:
    """Open `page`, hold it to what every page must be, and return its text."""
    tab = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    said: list[str] = []
    asked: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(page.as_uri())
    assert page.stat().st_size < MOST
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    ink, paper = (tab.evaluate(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor"))
    assert (brightness(ink) > 128) == (scheme == "dark") == (brightness(paper) < 128)
    text: str = tab.inner_text("body")
    tab.close()
    return text


def brightness(color: str) -> float:
    """Return the mean of red, green and blue in `rgb(r, g, b)`."""
    values = [float(value) for value in color[4:-1].split(",")]
    return sum(values) / 3


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page(finished: Clone, browser: Browser, width: int, scheme: str) -> None:
    """No console message, no request; inside the window, in dark and light; the numbers of the run, and commands."""
    text = look(browser, finished.path / "report/index.html", width, scheme)
    metrics = json.loads((finished.path / "metrics/evaluate.json").read_text())
    lower, upper = wilson(500 - metrics["errors"], 500)
    assert f"{metrics['accuracy']:.2%} ({lower:.2%} to {upper:.2%})" in text
    assert json.loads((finished.path / "metrics/train.json").read_text())["weights_sha256"] in text
    assert "cpu, exact to the bit\n" in text
    assert f"{metrics['errors']} of 500 test digits misclassified" in text
    assert "mislabelled" not in text  # of MNIST alone
    (find,) = re.findall("git log .*train.json", text)
    assert finished.run(*find.split()).stdout.split() == [
        finished.run("git", "rev-parse", "--short", "HEAD").stdout.strip(),
        "digits",
    ]


@pytest.mark.slow
def test_run_it_again(finished: Clone, tmp_path: Path) -> None:
    """The lines of the page, in a fresh clone of the commit, end with its weights: of any edit that git does not have.

    Here of another split and seed, and of a new recipe with a name that shells and YAML quote.
    """
    clone = finished.copy(tmp_path / "clone")
    recipe = (clone.path / "recipes/quick.yaml").read_text().replace("epochs: 1", "epochs: 2")
    (clone.path / "recipes/it's mine.yaml").write_text(re.sub("weight_decay: .*\n", "weight_decay: 1e-5\n", recipe))
    clone.replace("params.yaml", "recipe: fast", "recipe: it's mine")
    for old, new in (
        ("seed: 0 # random seed of the split", "seed: 3 #"),
        ("seed: 0 # random seed of weights", "seed: 7 #"),
        ("validation_fraction: 0.1", "validation_fraction: 0.2"),
    ):
        clone.replace("params.yaml", old, new)
    clone.run("dvc", "repro")
    (lines,) = re.findall('<pre id="again".*?>(.*?)</pre>', (clone.path / "report/index.html").read_text(), re.DOTALL)
    again = finished.clone(tmp_path / "again")
    again.run("sh", "-c", html.unescape(lines))
    for file in ("metrics/train.json", "metrics/evaluate.json", "plots/predictions.csv"):
        assert (again.path / file).read_bytes() == (clone.path / file).read_bytes()
    assert (again.path / "metrics/train.json").read_bytes() != (finished.path / "metrics/train.json").read_bytes()


def test_the_page_follows_from_what_is_declared(finished: Clone, tmp_path: Path) -> None:
    """Comments and the order of keys in params.yaml and in the recipe, which DVC does not see, change no byte of it."""
    clone = finished.copy(tmp_path / "clone")
    before = (clone.path / "report/index.html").read_bytes()
    for file in ("params.yaml", "recipes/fast.yaml"):
        text = re.sub(" #.*", "", (clone.path / file).read_text())
        (clone.path / file).write_text(re.sub("(?s)(.*)(^(?:train|epochs):.*)", r"\2\n\1", text, flags=re.MULTILINE))
    clone.run("python", "-m", "stages.report")
    assert (clone.path / "report/index.html").read_bytes() == before


@pytest.mark.slow
def test_the_page_against_a_revision(finished: Clone, browser: Browser, tmp_path: Path) -> None:
    """`--against main` shows two runs side by side with the verdict, and leaves the outputs of the pipeline alone."""
    clone = finished.copy(tmp_path / "clone")
    clone.replace("params.yaml", "recipe: fast", "recipe: quick")
    clone.replace("params.yaml", "seed: 0 # random seed of weights", "seed: 1 # random seed of weights")
    clone.run("dvc", "repro")
    before = clone.run("git", "status", "--porcelain").stdout
    said = clone.run("python", "-m", "stages.report", "--against", "main").stdout
    assert clone.run("git", "status", "--porcelain").stdout == before
    assert clone.repro() == []
    verdict = said.removeprefix("report/against.html: ").strip()
    text = look(browser, clone.path / "report/against.html", 390, "light")
    assert verdict in text
    assert re.search(r"train.recipe\s+fast\s+quick", text)
    assert re.search(r"train.seed\s+0\s+1", text)
    check_both(browser, clone)
    for folder in ("cache", "tmp"):  # as in a fresh clone
        shutil.rmtree(clone.path / ".dvc" / folder)
    clone.run("python", "-m", "stages.report", "--against", "main")
    text = look(browser, clone.path / "report/against.html", 1280, "dark")
    assert "main, whose model is not in DVC\u2019s cache" in text
    failed = clone.run("python", "-m", "stages.report", "--against", "nowhere", status=1)
    assert "nowhere: no such revision" in failed.stderr


def test_the_page_of_a_data_set_of_which_nothing_is_missing(
    finished: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry without `missing` has a data card without that part."""
    clone = finished.copy(tmp_path / "clone")
    monkeypatch.chdir(clone.path)
    assert "What is missing" in page([runs.load(None)], [model.read()]).decode()
    entry = clone.path / "datasets/digits/dataset.yaml"
    entry.write_text(re.sub(r"^missing:.*\n(?: .*\n)*", "", entry.read_text(), flags=re.MULTILINE))
    assert "What is missing" not in page([runs.load(None)], [model.read()]).decode()


def test_the_page_of_a_training_on_a_gpu(finished: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    """It claims no equal bits, and names the GPU."""
    monkeypatch.chdir(finished.path)
    versions = {"python": "3.11.7", "torch": "2.15.0", "numpy": "2.4.6"}
    gpu = {"device": "NVIDIA H100", "exact": False, **versions}
    text = page([runs.load(None)], [model.read() | {"environment": gpu}]).decode()
    assert "NVIDIA H100, not exact to the bit; Python 3.11.7, PyTorch 2.15.0, NumPy 2.4.6" in text
    assert "bit for bit" not in text


def test_what_is_said_of_a_run(finished: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    """An eighth is 12.5 %, every parameter counts, whatever its name, and 94.02 % is as often as 94.04 %."""
    monkeypatch.chdir(finished.path)
    run, trained = runs.load(None), model.read()
    params = run.files[settings.PARAMS]
    eighth = {**params, "split": {**params["split"], "validation_fraction": 0.125}}
    run = dataclasses.replace(run, files={**run.files, settings.PARAMS: eighth})
    said = facts.table(run, trained | {"weights": {"scale": torch.ones(3)}})
    assert said["split"] == "stratified, 12.5% to validate, seed 0"
    assert said["epochs"] == "2, of 1,167 images"
    lower, upper = wilson(round(run.validation_accuracy * 130), 130)
    assert said["validation accuracy"] == f"{run.validation_accuracy:.2%} ({lower:.2%} to {upper:.2%})"
    assert said["parameters"] == f"{sum(of.numel() for of in model.trained(trained).parameters()):,}"
    assert facts.table(run, None)["trained on"] == "unknown, as neither DVC's cache nor its remote has the model"
    for accuracy, words in ((0.9402, "as often as it says"), (0.95, "more often than"), (0.93, "less often than")):
        run.predictions["probability"] = 0.9404
        text = page([dataclasses.replace(run, metrics={**run.metrics, "accuracy": accuracy})], [trained]).decode()
        assert f"%: it is right {words}" in text


def test_a_run_without_errors(finished: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page says so, and the pictures are drawn. Beside a run with errors, the images of these are exact.

    A page of two runs says how to run the last one again, and shows no study. The model of an older version of this
    project is as one that is not there.
    """
    monkeypatch.chdir(finished.path)
    run = runs.load(None)
    confusions = Counter((actual, predicted) for actual, predicted, _ in run.predictions if actual != predicted)
    said, worst = facts.failures(run), min(run.per_class, key=lambda row: row["recall"])
    one, other, times = said["confusion"]
    assert confusions[run.names.index(one), run.names.index(other)] == times == max(confusions.values())
    assert said["worst_class"] == run.names[int(worst["class"])]
    assert said["worst"]["errors"] == sum(of for (actual, _), of in confusions.items() if actual == worst["class"])
    assert said["sure"] == sum(one != other and probability >= 0.9 for one, other, probability in run.predictions)
    assert said["probability"] == pytest.approx(run.predictions["probability"].mean())
    right = run.predictions.copy()
    right["predicted"] = right["actual"]
    perfect = dataclasses.replace(run, predictions=right, metrics={**run.metrics, "errors": 0, "accuracy": 1.0})
    assert "It misclassifies none of 500 test digits." in page([perfect], [model.read()]).decode()
    assert all(pictures.png(of)[1:4] == b"PNG" for of in main.drawn(perfect, raw.images("t10k"), ink=True).values())
    monkeypatch.setattr(studies, "load", lambda: ["a study"])
    params = run.files[settings.PARAMS]
    other = dataclasses.replace(run, files={settings.PARAMS: {**params, "train": {**params["train"], "seed": 7}}})
    text = page([other, perfect], [None, model.read()], comparison.compare(other, perfect)).decode()
    assert "  seed: 7\n" not in text  # in the lines that run the last one again
    shown = main.content([run, perfect], [None, None], comparison.compare(run, perfect))
    assert shown["images"]["exact"] == np.flatnonzero(~run.right).tolist()
    assert shown["studies"] == []
    torch.save({"weights": {}, "weights_sha256": exact.digest({})}, older := io.BytesIO())
    monkeypatch.setattr("dvc.api.read", lambda *_, **__: older.getvalue())
    assert main.model_of("HEAD") is None


def test_the_page_of_a_class(
    finished: Clone, browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A net that is a class of Python cannot run in the page, which says so, and claims nothing of its answers.

    One cannot draw in this page. A page of two nets begins with the one that it can run.
    """
    monkeypatch.chdir(finished.path)
    made = model.read() | {"model": "nets.residual:ResidualNet"}
    (tmp_path / "index.html").write_bytes(page([runs.load(None)], [made]))
    tab = browser.new_page()
    tab.goto((tmp_path / "index.html").as_uri())
    assert "it runs in this page" not in tab.locator("header").inner_text()
    tab.locator(".matrix button.right").first.click()
    tab.locator("#digits button").first.click()
    assert tab.locator("#answer").inner_text() == "This page cannot run the net, which is a class of Python."
    assert re.fullmatch(r"Test digit \d+: label 0\.", tab.locator("#about").inner_text())
    assert tab.locator("#try h2").inner_text() == "Choose a digit"
    assert tab.evaluate("pen.getImageData(0, 0, WIDTH, HEIGHT).data.some((value, at) => at % 4 < 3 && value > 0)")
    assert tab.locator("#undo").count() == 0
    assert not any(tab.locator(name).is_visible() for name in ("#bars", "#seen", "#try h3"))
    run = runs.load(None)
    both = [run, dataclasses.replace(run, name="other")]
    (tmp_path / "against.html").write_bytes(page(both, [model.read(), made], comparison.compare(*both)))
    tab.goto((tmp_path / "against.html").as_uri())
    assert [radio.is_checked() for radio in tab.locator("[name=net]").all()] == [True, False]
    tab.locator(".matrix button.right").first.click()
    tab.locator("#digits button").first.click()
    assert tab.locator("#answer").inner_text().startswith("0, with")
    assert tab.locator("#undo").is_visible()
    tab.close()


def check_both(browser: Browser, clone: Clone) -> None:
    """Check what only a page of two runs has: the digits that one alone gets right, and the switch between the nets."""
    tab = browser.new_page()
    tab.goto((clone.path / "report/against.html").as_uri())
    tab.evaluate("decoded.then(() => null)")
    other = csv.DictReader(clone.run("git", "show", "main:plots/predictions.csv").stdout.splitlines())
    mine = csv.DictReader((clone.path / "plots/predictions.csv").open())
    right = [[row["actual"] == row["predicted"] for row in rows] for rows in (other, mine)]
    for number, (these, those) in enumerate((right, right[::-1])):
        alone = [row for row, (this, that) in enumerate(zip(these, those, strict=True)) if this and not that]
        tab.locator("#groups button").nth(number).click()
        titles = tab.locator("#digits button").evaluate_all("buttons => buttons.map(b => b.title)")
        assert [title.split(":")[0] for title in titles] == [f"no. {row}" for row in alone]
        assert re.search(rf": label (\d),.* {('main', 'the workspace')[number]} predicted \1(,|$)", titles[0])
        assert alone
        tab.locator("#digits button").first.click()
        for net, verdict in ((number, "Classified as labelled."), (1 - number, "Misclassified.")):
            tab.locator("[name=net]").nth(net).check()
            assert verdict in tab.locator("#about").inner_text()
    assert tab.locator(".matrix").count() == 2
    tab.close()


VEGA = "vegaEmbed = (place) => { document.querySelector(place).append('drawn by Vega'); }"


@pytest.mark.parametrize("network", [True, False])
def test_the_page_of_dvc(finished: Clone, browser: Browser, tmp_path: Path, network: bool) -> None:
    """Five charts, and no picture of the same; without a network it says so, and shows those pictures, too.

    In a diff, every picture is inside the window. Vega itself is a stub: the tests have no network.
    """
    finished.run("dvc", "plots", "diff", "main~1", "main", "--out", str(tmp_path / "plots"))
    tab = browser.new_page(viewport={"width": 1280, "height": 800})
    cdn = "https://cdn.jsdelivr.net/**"
    tab.route(cdn, lambda route: route.fulfill(body=VEGA, content_type="text/javascript") if network else route.abort())
    said: list[str] = []
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.goto((tmp_path / "plots/index.html").as_uri())
    assert said == []
    text = tab.inner_text("body")
    assert text.count("drawn by Vega") == (5 if network else 0)
    assert ("The charts need a network" in text) == (not network)
    assert ("report/confusion.png" in text) == ("report/training.png" in text) == (not network)
    edges = tab.evaluate(
        "[...document.images].map(i => i.getBoundingClientRect()).filter(r => r.width).map(r => [r.left, r.right])"
    )
    assert len(edges) == (2 if network else 6)  # errors.png of both runs
    assert all(0 <= left < right <= 1280 for left, right in edges)
    tab.close()


def test_names_that_are_no_numbers(browser: Browser) -> None:
    """In the charts of DVC, classes such as `01` and `1` stay two, and `1e5` is not called 100000; 10 comes after 9."""
    names = ["0", "9", "10", "01", "1.0", "1e5", "0x1F", "-5", "nan", "NaN", "Infinity", "123456789012345678901"]
    tab = browser.new_page()
    for template, count in (("classes", 1), ("per_class", 1), ("confusion", 2)):
        drawn = json.loads((PROJECT / f".dvc/plots/{template}.json").read_text())["transform"]
        found = [of["calculate"] for of in drawn if "class" in of.get("as", "")]
        assert len(found) == count
        for expression in found:
            value = re.sub(r"datum\['<DVC_METRIC_[XY]>'\]", "name", expression)
            vega = "toNumber = Number, test = (pattern, text) => pattern.test(text)"  # Vega's functions
            values = tab.evaluate(f"names => {{ const {vega}; return names.map(name => {value}); }}", names)
            assert values == [0, 9, 10, *names[3:]]
    tab.close()


def test_the_numbers(finished: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every number of evaluate.json follows from plots/predictions.csv, or from the net: counted here."""
    metrics = json.loads((finished.path / "metrics/evaluate.json").read_text())
    rows = list(csv.DictReader((finished.path / "plots/predictions.csv").open()))
    pairs = [(row["actual"], row["predicted"]) for row in rows]
    right = sum(actual == predicted for actual, predicted in pairs)
    assert metrics["accuracy"] == round(right / len(pairs), 6)
    per_class = list(csv.DictReader((finished.path / "plots/per_class.csv").open()))
    f1s = []
    for digit in "0123456789":
        hits = pairs.count((digit, digit))
        actual = sum(pair[0] == digit for pair in pairs)
        predicted = sum(pair[1] == digit for pair in pairs)
        f1s.append(2 * hits / (actual + predicted))
        assert metrics["per_class"][digit] == round(hits / actual, 6)
        lower, upper = wilson(hits, actual)
        expected = [actual, actual - hits, hits / actual, lower, upper, hits / predicted, f1s[-1]]
        assert [float(value) for value in list(per_class[int(digit)].values())[1:]] == [round(v, 6) for v in expected]
    assert metrics["macro_f1"] == pytest.approx(sum(f1s) / 10, abs=1e-6)
    monkeypatch.chdir(finished.path)
    exactly = embed.probabilities(model.trained(model.read()), torch.from_numpy(raw.images("t10k")))
    assert metrics["loss"] == pytest.approx(-np.log(exactly[range(500), raw.labels("t10k")]).mean(), abs=1e-6)
    sure = np.array([float(row["probability"]) for row in rows])
    assert np.array_equal(sure, exactly.max(1).round(4))
    bins = calibration(sure, np.array([actual == predicted for actual, predicted in pairs]))
    assert metrics["expected_calibration_error"] == round(expected_calibration_error(bins), 6)
    expected = [[sure, hits / count, *wilson(hits, count), count] for sure, hits, count in bins]
    assert np.allclose(np.loadtxt("plots/reliability.csv", delimiter=",", skiprows=1), expected, rtol=0, atol=1e-6)
    assert "accuracy_without_mislabelled" not in metrics  # of MNIST alone


def test_a_class_that_is_never_predicted(finished: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its precision is 0, not 0 divided by 0."""
    monkeypatch.chdir(finished.copy(tmp_path / "clone").path)
    monkeypatch.setattr(inference, "predict", lambda _, images, __: torch.eye(10)[:1].repeat(len(images), 1))
    evaluate.main()
    precision = np.loadtxt("plots/per_class.csv", delimiter=",", skiprows=1)[:, 6]
    assert precision.tolist() == [precision[0], *9 * [0]]


def test_names_are_no_formulas() -> None:
    """Names with dollars, which matplotlib takes for mathematics, are drawn as they are."""
    names = ["US$_$", "$x$"]
    assert pictures.png(pictures.confusion(np.eye(2, dtype=int), names))[1:4] == b"PNG"
    assert pictures.png(pictures.grid(np.zeros((2, 28, 28), np.uint8), names, ink=True))[1:4] == b"PNG"


def test_long_names_stay_apart() -> None:
    """In the pictures, a long name is its beginning, and names with one beginning have their places before them."""
    names = ["healthy", "pneumonia, viral", "pneumonia, bacterial", "bronchitis"]
    assert pictures.shortened(names) == ["healthy", "1 pneumo…", "2 pneumo…", "bronchit…"]


def test_names_that_the_font_cannot_write() -> None:
    """In the pictures, they are "class" and their places, not boxes. Greek and Cyrillic ones stay."""
    assert pictures.shortened(["猫", "🌸 pink", "Ωμέγα", "кот"]) == ["class 0", "class 1", "Ωμέγα", "кот"]
