"""Pages as a browser shows them: no errors, no requests, nothing too wide, and what clicks, taps and keys do.

Playwright drives the system's Chromium; where either is missing, the tests are skipped. axe-core (tests/vendored,
MPL 2.0) looks for faults of accessibility.
"""

import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kerascnn import runs
from kerascnn.pages import compare, extras, report
from kerascnn.recipes import Recipe
from kerascnn.training import record
from kerascnn.training.evaluate import score

pytestmark = pytest.mark.slow

AXE = Path(__file__).parent / "vendored" / "axe.min.js"
NAMES = ("cat <script>alert(1)</script>", "שלום עולם", "a very long class name " * 9)
COUNT = 60


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of sixty test images in three classes with hostile names, every fifth a mistake, with a map."""
    run = runs.Run(tmp_path_factory.mktemp("browser") / "first")
    run.folder.mkdir()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (COUNT, 16, 16, 3), "uint8")
    labels = np.arange(COUNT) % 3
    answers = np.where(np.arange(COUNT) % 5 == 0, (labels + 1) % 3, labels)
    probabilities = 0.1 + 0.7 * np.eye(3)[answers]
    files = tuple(f"{'x' * 90}/{i} <b>&\n.png" for i in range(COUNT))
    run.write("recipe", Recipe(data="photos", epochs=3).to_dict())
    run.write("data", {"name": "photos", "source": "photos", "class_names": NAMES, "notes": ["A <note>."]})
    result = {"accuracy": 0.8, "accuracy_interval": [0.7, 0.9], "images": COUNT, "best_epoch": 1, "epochs": 2}
    run.write("run", {"status": "finished", "result": result, "parameters": 1234})
    (run / "metrics.csv").write_text("epoch,accuracy,loss,val_loss\n0,0.5,2.0,2.5\n1,0.75,1.0,3.0\n")
    measured = score(np.log(probabilities), labels, NAMES, files)
    record.keep(run, measured, images)
    _made_up_map(run, images, labels)
    return run


def _made_up_map(run, images, labels):
    """A map whose image i lies at ((i + 0.5) / 60, class / 2), with its small pictures."""
    from PIL import Image

    lines = ["image,x,y", *(f"{i},{(i + 0.5) / COUNT},{label / 2}" for i, label in enumerate(labels))]
    (run / "evaluation" / "map.csv").write_text("\n".join(lines) + "\n")
    side = extras.THUMBNAIL
    sheet = Image.new("RGB", (extras.ACROSS * side, 2 * side))
    for i, image in enumerate(images):
        sheet.paste(Image.fromarray(image).resize((side, side)), (i % extras.ACROSS * side, i // extras.ACROSS * side))
    sheet.save(run / "evaluation" / "map.webp")
    runs.write_json(run / extras.EXTRAS, {"look": "grad_cam", "notes": []})


@pytest.fixture
def opened(browser):
    """Opens a file in a window of its own; at the end no error was said and nothing beyond the file was asked for."""
    contexts, said = [], []

    def opened(path, **options):
        context = browser.new_context(**options)
        context.set_default_timeout(120_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on(
            "request", lambda asked: said.append(asked.url) if not asked.url.startswith(("file:", "data:")) else None
        )
        page.on("dialog", lambda dialog: (said.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.goto(Path(path).resolve().as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []


@pytest.fixture(scope="module")
def page_file(run):
    return report.write(run)


def test_a_cell_of_the_confusion_matrix_opens_its_images(opened, page_file):
    page = opened(page_file)
    cell = page.locator(".confusion button").nth(1)  # of the first class, predicted as the second
    count = int(cell.inner_text())
    cell.click()
    dialog = page.locator("dialog[open]")
    assert dialog.locator(".card").count() == count == 4
    assert dialog.locator("h2").inner_text() == f"{NAMES[0]} predicted as {NAMES[1]} (4)"
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0


def test_pointing_at_the_map_shows_the_image(opened, page_file):
    page = opened(page_file)
    spot = page.locator("[data-point='4']")
    spot.hover()
    tip = page.locator(".tip")
    assert tip.is_visible()
    assert tip.locator("b").first.inner_text() == NAMES[1]
    assert tip.locator("b").nth(1).inner_text() == "right"
    page.locator("[data-point='35']").hover()
    assert tip.locator("b").nth(1).inner_text() == f"predicted as {NAMES[0]}"
    at = tip.locator(".thumb").evaluate("e => getComputedStyle(e).backgroundPosition")
    across, down = (float(part.rstrip("%")) for part in at.split())
    assert across == pytest.approx(100 * 5 / (extras.ACROSS - 1), abs=0.01)
    assert down == 100


def test_arrow_keys_step_through_the_map(opened, page_file):
    page = opened(page_file)
    page.locator(".mapped").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert page.locator(".spot.on").get_attribute("data-point") == "2"
    page.keyboard.press("ArrowLeft")
    assert page.locator(".spot.on").get_attribute("data-point") == "1"
    page.keyboard.press("Escape")
    assert page.locator(".spot.on").count() == 0


def test_a_class_can_be_singled_out(opened, page_file):
    page = opened(page_file)
    button = page.locator("button.class").nth(2)
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    assert page.locator(".spot.dim").count() == 40
    button.click()
    assert page.locator(".spot.dim").count() == 0


def test_a_tap_shows_the_image_on_a_phone(opened, page_file):
    page = opened(page_file, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page.locator("[data-point='7']").tap()
    assert page.locator(".tip").is_visible()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The microscope of a small network over forty images of three classes."""
    from scan_networks import network, whole_images

    import kerascnn
    from kerascnn.datasets.image_data import ImageData, Split

    images, labels = whole_images(40, seed=3)
    split = Split(images.astype("uint8") * 100, labels, tuple(f"{i}.png" for i in range(40)))
    data = ImageData("few", "few", ("<i>one</i>", "two", "three"), None, test=split)
    index = kerascnn.microscope(
        network(),
        data,
        out=tmp_path_factory.mktemp("microscope") / "site",
        top=3,
        maps=1,
        looks=3,
        preprocessing=lambda pixels: pixels.astype("float32") / 100,
    )
    return index.parent


def test_the_search_box_finds_a_unit_by_keys_alone(opened, site):
    page = opened(site / "index.html")
    page.keyboard.press("/")
    page.keyboard.type("conv2 3")
    assert page.locator("#found a").first.inner_text() == "conv2 unit 3"
    page.keyboard.press("Enter")
    page.wait_for_url("**/units/conv2/0003.html")
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**/units/conv2/0004.html")
    page.go_back()
    page.wait_for_url("**/units/conv2/0003.html")
    page.keyboard.press("/")
    page.keyboard.type("one")
    assert page.locator("#found a").first.inner_text() == "class <i>one</i>"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("units/conv1/9999.html", "Layer conv1 has no unit 9999; it has the units 0 to 3."),
        ("units/conv9/0001.html", "This site has no layer conv9; it has conv1, conv2, softmax."),
        ("layers/conv9.html", "This site has no layer conv9; it has conv1, conv2, softmax."),
        ("images/none.html", "This site has no page at that address."),
    ],
)
def test_an_address_without_a_page_is_told(opened, site, tmp_path, address, said):
    shutil.copytree(site, tmp_path / "site")
    (tmp_path / "site" / address).parent.mkdir(exist_ok=True)
    shutil.copy(site / "404.html", tmp_path / "site" / address)  # as a server shows it
    page = opened(tmp_path / "site" / address)
    assert page.locator("#missing").inner_text() == said
    assert page.locator("#find").is_visible()
    page.get_by_role("link", name="the network").click()
    page.wait_for_url("**/site/index.html")


def test_units_are_sorted_and_filtered_and_the_address_says_how(opened, site):
    page = opened(site / "layers" / "conv1.html")
    means = "[...document.querySelectorAll('.grid li')].filter(e => !e.hidden).map(e => Number(e.dataset.m))"
    page.select_option("select[name=sort]", "m")
    numbers = page.evaluate(means)
    assert numbers == sorted(numbers, reverse=True)
    assert len(numbers) == 4
    page.select_option("select[name=show]", "dead")
    dead = page.evaluate(means)
    assert all(mean <= 0 for mean in dead)
    assert page.url.endswith("#sort=m&show=dead")
    again = opened(page.url.removeprefix("file://").partition("#")[0])
    again.goto(page.url)
    assert again.evaluate(means) == dead


def test_a_label_is_kept_and_found(opened, site):
    page = opened(site / "units" / "conv1" / "0002.html")
    page.fill("input[name=label]", "eyes, <b>")
    page.click("form.label button")
    assert page.locator("form.label output").inner_text() == "kept"
    from urllib.parse import unquote

    csv = unquote(page.locator("a.csv").first.get_attribute("href").partition(",")[2])
    assert csv == 'layer,unit,label,note\nconv1,2,"eyes, <b>",\n'
    page.fill("#find", "eyes")
    assert page.locator("#found a").first.inner_text() == "conv1 2: eyes, <b>"


def test_units_are_listed_side_by_side_at_an_address_of_their_own(opened, site):
    page = opened(site / "units" / "conv1" / "0002.html")
    page.locator("button.compare").focus()
    page.keyboard.press("Enter")
    assert page.locator("button.compare").get_attribute("aria-pressed") == "true"
    page.goto((site / "units" / "conv2" / "0001.html").as_uri())
    page.click("button.compare")
    assert page.locator("a.compare").inner_text() == "Compare (2)"
    largest = float(page.locator("dt:text-is('Largest') + dd").inner_text())
    page.click("a.compare")
    page.wait_for_selector("#compared li + li")
    assert page.url.endswith("compare.html#units=conv1/2,conv2/1")
    assert page.locator("#compared b").all_inner_texts() == ["conv1 2", "conv2 1"]
    shown = page.locator("#compared li").nth(1).locator("dd").nth(1).inner_text()
    assert float(shown) == pytest.approx(largest, rel=1e-3)
    again = opened(site / "index.html")  # another browser, which has kept nothing
    again.goto(page.url.replace("conv2/1", "conv2/1,conv2/99,nothing/0"))
    again.wait_for_selector("#compared li + li + li + li")
    assert again.locator("#compared b").all_inner_texts() == ["conv1 2", "conv2 1"]
    assert again.locator("#compared li").nth(2).inner_text() == "There is no unit conv2/99 in this site."
    page.click("#compared button >> nth=0")
    page.wait_for_function("document.querySelectorAll('#compared li').length == 1")
    assert page.url.endswith("#units=conv2/1")
    page.go_back()
    page.wait_for_url("**/units/conv2/0001.html")
    assert page.locator("a.compare").inner_text() == "Compare (1)"


def test_the_numbers_of_a_unit_are_the_scans(opened, site):
    page = opened(site / "layers" / "conv1.html")
    largest = float(page.locator("[data-unit='0']").get_attribute("data-x"))
    page.locator("[data-unit='0'] a").click()
    page.wait_for_url("**/units/conv1/0000.html")
    values = page.locator("main b").all_inner_texts()
    assert float(values[0]) == pytest.approx(largest, rel=1e-3)


@pytest.mark.parametrize(
    "name", ["index", "units/conv1/0000", "layers/conv2", "classes/0001", "images/000000", "compare"]
)
def test_pages_of_a_microscope_fit_a_phone_and_have_no_serious_fault(opened, site, name):
    for scheme in ("light", "dark"):
        page = opened(site / f"{name}.html", viewport={"width": 360, "height": 740}, color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert _serious(page) == []


def _serious(page):
    """What axe-core calls a serious or critical fault."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    faults = page.evaluate("axe.run(document, {resultTypes: ['violations'], preload: false}).then(r => r.violations)")
    return [
        (fault["id"], node["html"][:120], node["failureSummary"][:200])
        for fault in faults
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]


def _pages(run, page_file, folder):
    """The files of a report and of a comparison."""
    second = runs.Run(folder / "second")
    shutil.copytree(run.folder, second.folder)
    second.write("recipe", second.read("recipe") | {"epochs": 5})
    return page_file, compare.write([run, second], folder / "compare.html")


def test_nothing_is_wider_than_a_phone(opened, run, page_file, tmp_path):
    for path in _pages(run, page_file, tmp_path):
        page = opened(path, viewport={"width": 360, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_theme_follows_the_system(opened, page_file):
    light, dark = (
        re.findall(
            r"\d+", opened(page_file, color_scheme=scheme).evaluate("getComputedStyle(document.body).backgroundColor")
        )
        for scheme in ("light", "dark")
    )
    assert min(map(int, light)) > 200
    assert max(map(int, dark)) < 60


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(opened, run, page_file, tmp_path, scheme):
    for path in _pages(run, page_file, tmp_path):
        page = opened(path, color_scheme=scheme)
        assert _serious(page) == []


@pytest.fixture(scope="module")
def live(trained):
    """The address of the live page of the trained run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "kerascnn", "serve", trained.folder, "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline().startswith("http://"), process.communicate()
    yield f"http://127.0.0.1:{port}/"
    process.terminate()
    process.communicate(timeout=20)


@pytest.fixture
def live_page(browser, live):
    """The live page; at the end no error was said and nothing but the server was asked."""
    context, said = browser.new_context(viewport={"width": 900, "height": 900}), []
    context.set_default_timeout(120_000)
    page = context.new_page()
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on(
        "request",
        lambda asked: said.append(asked.url) if not asked.url.startswith((live, "data:", "blob:")) else None,
    )
    page.goto(live)
    yield page
    context.close()
    assert said == []


def answered(page, where="before"):
    page.wait_for_function(f"document.querySelectorAll('#{where} em').length == 3")
    return dict(
        zip(
            page.locator(f"#{where} span").all_inner_texts(),
            map(float, page.locator(f"#{where} em").all_inner_texts()),
            strict=True,
        )
    )


def test_an_uploaded_image_is_answered_overlaid_and_ablated(live_page, trained):
    page = live_page
    page.set_input_files("#file", trained.folder.parent / "photos" / "tomato" / "5.png")
    before = answered(page)
    assert max(before, key=before.get) == "tomato"
    page.select_option("#method", "occlusion")
    page.wait_for_function("!document.getElementById('map').hidden")
    page.locator("#strength").fill("30")
    assert page.locator("#map").evaluate("e => getComputedStyle(e).opacity") == "0.3"
    page.locator("details svg a").first.click()  # the first convolution of the picture
    page.wait_for_function("document.querySelectorAll('#units button').length == 6")
    assert "layer=c1" in page.url
    for unit in range(6):
        page.locator(f"#units button[data-unit='{unit}']").click()
    page.wait_for_function("document.getElementById('off').textContent == 'Without c1 0,1,2,3,4,5'")
    assert answered(page, "after") != before
    page.click("#on")
    page.wait_for_function("document.getElementById('without').hidden")


def test_an_address_restores_the_view(live_page, live):
    page = live_page
    sample = page.locator("#sample option").nth(1).inner_text()
    page.goto(f"{live}#sample={sample}&method=saliency&layer=c3&off=2")
    page.reload()
    answered(page, "after")
    page.wait_for_function("document.querySelectorAll('#units button').length == 16")
    assert page.locator("#units button[aria-pressed=true]").get_attribute("data-unit") == "2"
    assert page.locator("#method").input_value() == "saliency"


def test_two_images_are_compared_at_an_address_of_their_own(live_page, live):
    page = live_page
    one, two = page.locator("#sample option").all_inner_texts()[1:3]
    page.select_option("#sample", one)
    answered(page)
    page.click("#both")
    page.select_option("#sample-2", two)
    page.select_option("#layer", "c3")
    page.select_option("#method", "saliency")
    other = answered(page, "before-2")
    page.wait_for_function("document.querySelectorAll('#units button i').length == 2 * 16")
    page.wait_for_function("!document.getElementById('map-2').hidden")
    page.locator("#units button").nth(3).click()
    without = answered(page, "after-2")
    assert page.url == f"{live}#sample={one}&two=1&second={two}&layer=c3&method=saliency&off=3"
    page.reload()
    assert answered(page, "before-2") == other
    assert answered(page, "after-2") == without
    page.wait_for_function("document.querySelectorAll('#units button i').length == 2 * 16")
    page.click("#both")
    page.wait_for_function("document.querySelectorAll('#units button i').length == 16")
    assert not page.locator("#second").is_visible()
    assert page.url == f"{live}#sample={one}&layer=c3&method=saliency&off=3"


def test_a_drawing_is_answered(live_page):
    page = live_page
    page.click("#draw")
    box = page.locator("#board").bounding_box()
    page.mouse.move(box["x"] + 40, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 150, box["y"] + 150)
    page.mouse.up()
    assert sum(answered(page).values()) == pytest.approx(1, abs=1e-3)


def test_a_picture_of_the_camera_is_answered(live_page):
    page = live_page
    page.context.grant_permissions(["camera"])
    page.click("#camera")
    page.get_by_text("Take the picture").click()
    assert sum(answered(page).values()) == pytest.approx(1, abs=1e-3)
    assert page.locator("#camera").inner_text() == "Camera"
    assert page.locator("video").is_hidden()


def test_the_live_page_fits_a_phone_and_has_no_serious_fault(live_page):
    live_page.set_viewport_size({"width": 360, "height": 740})
    assert live_page.evaluate("document.documentElement.scrollWidth") <= 360
    assert _serious(live_page) == []
