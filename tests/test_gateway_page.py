"""The gateway's page in a real browser."""

import base64
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from fake_tasks import detector, embedder, segmenter
from fake_triton import FakeTriton, serving
from gateways import gateway
from playwright.sync_api import Browser, Page, expect, sync_playwright
from tools import program

from builder.data.images import SAMPLES

pytestmark = pytest.mark.browser

PHOTO = SAMPLES / "coffee.jpg"
DROP = """([name, type, data]) => {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, {type}));
  const made = EVENT;
  document.getElementById("drop").dispatchEvent(made);
}"""
DROPPED = DROP.replace("EVENT", "new DragEvent('drop', {dataTransfer: transfer, bubbles: true, cancelable: true})")
PASTED = DROP.replace(
    "EVENT", "new ClipboardEvent('paste', {clipboardData: transfer, bubbles: true, cancelable: true})"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = program("chromium chromium-browser google-chrome", "apt-get install chromium", "browser")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def triton() -> Iterator[tuple[FakeTriton, str]]:
    with serving() as (servicer, url):
        servicer.names = ["cars", "pets"]
        servicer.named = {
            "finder": detector([[48, 32, 240, 160], [0, 0, 480, 320]], [0.75, 0.5], [1, 2]),
            "nothing": detector([], [], []),
            "painter": segmenter(),
            "vectors": embedder([0.5, -0.25] * 10),
            "sentences": replace(embedder([0.5, 2]), inputs={"TEXT": ("BYTES", [-1, 1])}, task="text"),
        }

        def behave(_: int, request: Any, context: grpc.ServicerContext) -> None:
            if request.inputs[0].name == "IMAGE" and b"JFIF" not in request.raw_input_contents[0]:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not an image in a known format")

        servicer.behave = behave
        yield servicer, url


@pytest.fixture(scope="module")
def url(triton: tuple[FakeTriton, str]) -> Iterator[str]:
    with gateway(triton[1], "--model", "pets") as address:
        yield address


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """The page, opened; afterwards nothing of it may have complained or asked another host."""
    with browser.new_context(viewport={"width": 320, "height": 700}) as context:
        opened = context.new_page()
        wrong: list[str] = []
        opened.on("pageerror", lambda error: wrong.append(str(error)))
        opened.on("console", lambda message: message.type == "error" and wrong.append(message.text))
        opened.on("request", lambda r: r.url.startswith((url, "blob:", "data:")) or wrong.append(r.url))
        opened.goto(url)
        yield opened
        assert not [text for text in wrong if "status of 400" not in text and "status of 401" not in text]


def card(page: Page, name: str) -> Any:
    return page.get_by_role("listitem").filter(has=page.get_by_role("heading", name=name))


def file_of(path: Path) -> list[str]:
    return [path.name, "image/jpeg", base64.b64encode(path.read_bytes()).decode()]


def test_pick_drop_and_paste(page: Page) -> None:
    page.get_by_label("Choose images").set_input_files([PHOTO, SAMPLES / "rocket.jpg"])
    page.evaluate(DROPPED, file_of(SAMPLES / "chelsea.jpg"))
    page.evaluate(PASTED, file_of(SAMPLES / "astronaut.jpg"))
    for name in ("coffee.jpg", "rocket.jpg", "chelsea.jpg", "astronaut.jpg"):
        found = card(page, name)
        expect(found.get_by_role("meter", name="dog: large")).to_have_js_property("value", 0.75)
        expect(found).to_contain_text("75.0 %")
        expect(found.get_by_text("ms of them in the model")).to_be_visible()
        assert found.locator("img").evaluate("image => image.naturalWidth") > 100


def test_errors_are_told_by_image(page: Page, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"text")
    page.get_by_label("Choose images").set_input_files([broken, PHOTO])
    expect(card(page, "broken.jpg")).to_contain_text("not an image in a known format")
    expect(card(page, "coffee.jpg")).to_contain_text("75.0 %")
    page.evaluate(DROPPED, ["notes.txt", "text/plain", ""])
    expect(page.get_by_role("status").filter(has_text="not an image").last).to_have_text("That is not an image.")


def test_model_that_is_chosen_is_asked(page: Page) -> None:
    model = page.get_by_label("Model")
    expect(model).to_have_value("pets")
    model.select_option("cars")
    with page.expect_request("**/classify?model=cars"):
        page.get_by_label("Choose images").set_input_files(PHOTO)
    expect(card(page, "coffee.jpg")).to_contain_text("cars: ")


def test_keyboard_alone_is_enough(page: Page) -> None:
    page.on("filechooser", lambda _: None)  # from now on: the browser learns of it while the key may be on its way
    reached = []
    for _ in range(5):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert {"API", "model", "files"} <= set(reached)
    page.get_by_label("Choose images").focus()
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files(PHOTO)
    expect(card(page, "coffee.jpg")).to_contain_text("75.0 %")
    clear = page.get_by_role("button", name="Clear")
    clear.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("None yet.")).to_be_visible()
    expect(clear).to_be_hidden()


def test_screen_readers_are_told(page: Page) -> None:
    page.get_by_label("Choose images").set_input_files(PHOTO)
    expect(page.locator("#status")).to_have_text("coffee.jpg: dog: large, 75.0 %")
    assert page.locator("#status").get_attribute("aria-live") == "polite"
    expect(page.get_by_role("region", name="Results")).to_be_visible()
    expect(card(page, "coffee.jpg")).not_to_have_attribute("aria-busy", "true")
    assert page.locator("html").get_attribute("lang") == "en"


def test_it_fits_a_narrow_screen(page: Page) -> None:
    page.get_by_label("Choose images").set_input_files(PHOTO)
    expect(card(page, "coffee.jpg")).to_contain_text("75.0 %")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_labels_are_text(triton: tuple[FakeTriton, str], page: Page) -> None:
    servicer, _ = triton
    servicer.labels = (b"<img src=x onerror=alert(1)>", b"cat")
    page.get_by_label("Choose images").set_input_files(PHOTO)
    expect(card(page, "coffee.jpg")).to_contain_text("<img src=x onerror=alert(1)>")
    servicer.labels = (b"dog: large", b"cat")


def test_key_is_asked_for_where_it_is_wanted(browser: Browser, triton: Any, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cret")
    with gateway(triton[1], "--api-key-file", str(tmp_path / "key")) as url, browser.new_context() as context:
        page = context.new_page()
        page.goto(url)
        page.get_by_label("API key").fill("s3cret")
        page.get_by_label("API key").press("Tab")
        page.get_by_label("Model").select_option("pets")
        page.get_by_label("Choose images").set_input_files(PHOTO)
        expect(card(page, "coffee.jpg")).to_contain_text("75.0 %")


def asked_of(page: Page, model: str) -> Any:
    """The card of a photo, 480 pixels wide and 320 high, whatever the model."""
    page.get_by_label("Model").select_option(model)
    page.get_by_label("Choose images").set_input_files(PHOTO)
    expect(card(page, "coffee.jpg")).not_to_have_attribute("aria-busy", "true")
    return card(page, "coffee.jpg")


def test_boxes_lie_where_the_detector_says(page: Page) -> None:
    found = asked_of(page, "finder")
    boxes = found.locator(".box")
    expect(boxes).to_have_count(2)
    expect(boxes.first).to_have_text("cup 75.0 %")
    shown, box = found.locator(".picture > img").bounding_box(), boxes.first.bounding_box()
    places = [(box["x"] - shown["x"]) / shown["width"], (box["y"] - shown["y"]) / shown["height"]]
    sides = [box["width"] / shown["width"], box["height"] / shown["height"]]
    assert [*places, *sides] == pytest.approx([0.1, 0.1, 0.4, 0.4], abs=0.01)
    assert shown["width"] / shown["height"] == pytest.approx(1.5, abs=0.01)  # nothing of it is cut off
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_boxes_are_told_without_being_seen_and_chosen_by_keyboard(page: Page) -> None:
    found = asked_of(page, "finder")
    expect(page.locator("#status")).to_have_text("coffee.jpg: 2 found: cup, 75.0 %; spoon, 50.0 %")
    expect(found.locator(".box").first).to_have_attribute("aria-hidden", "true")
    expect(found.get_by_role("meter", name="cup")).to_have_js_property("value", 0.75)
    row = found.get_by_role("button", name="cup")
    row.focus()
    page.keyboard.press("Enter")
    expect(row).to_have_attribute("aria-pressed", "true")
    expect(found.locator(".box.pressed")).to_have_text("cup 75.0 %")
    page.keyboard.press("Space")
    expect(row).to_have_attribute("aria-pressed", "false")
    expect(found.locator(".box.pressed")).to_have_count(0)


def test_picture_with_nothing_on_it_says_so(page: Page) -> None:
    found = asked_of(page, "nothing")
    expect(found.get_by_text("nothing found; nothing: ")).to_be_visible()
    expect(found.locator(".box")).to_have_count(0)


def test_slider_sets_the_overlays_strength(page: Page) -> None:
    found = asked_of(page, "painter")
    overlay, slider = found.locator("canvas.overlay"), found.get_by_label("Strength of the overlay")
    expect(overlay).to_have_css("opacity", "0.6")
    expect(overlay).to_have_js_property("width", 4)
    alphas = overlay.evaluate(
        "(c) => [...c.getContext('2d').getImageData(0, 0, 4, 1).data].filter((_, n) => n % 4 === 3)"
    )
    assert alphas == [0, 0, 255, 255]
    slider.focus()
    page.keyboard.press("Home")
    expect(overlay).to_have_css("opacity", "0")
    page.keyboard.press("End")
    expect(overlay).to_have_css("opacity", "1")
    assert overlay.bounding_box() == found.locator(".picture > img").first.bounding_box()
    expect(found.locator(".legend li")).to_have_text(["spoon 62.5 %", "__background__ 37.5 %"])
    expect(page.locator("#status")).to_have_text("coffee.jpg: spoon, 62.5 %; __background__, 37.5 %")


def test_embedding_is_shown_by_its_length_and_first_numbers(page: Page) -> None:
    found = asked_of(page, "vectors")
    expect(found.get_by_text("20 numbers: 0.5, -0.25, 0.5, -0.25, 0.5, -0.25, 0.5, -0.25, …")).to_be_visible()


def test_text_is_asked_of_a_model_of_texts(page: Page, triton: tuple[FakeTriton, str]) -> None:
    expect(page.get_by_label("Text")).to_be_hidden()
    page.get_by_label("Model").select_option("sentences")
    expect(page.locator("#drop")).to_be_hidden()
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("#status")).to_have_text("There is no text.")
    page.get_by_label("Text").fill("<b>ein</b>\nMaß")
    page.get_by_role("button", name="Ask").click()
    found = page.locator("#results > li")
    expect(found.get_by_role("heading")).to_have_text("<b>ein</b> Maß")
    expect(found.get_by_text("2 numbers: 0.5, 2")).to_be_visible()
    assert triton[0].requests[-1].raw_input_contents[0][4:].decode() == "<b>ein</b>\nMaß"
    page.get_by_label("Model").select_option("pets")
    expect(page.get_by_label("Text")).to_be_hidden()
    expect(page.locator("#drop")).to_be_visible()


def test_documentation_lists_the_routes(page: Page, url: str) -> None:
    page.get_by_role("link", name="API").click()
    expect(page.get_by_role("heading", name="POST /classify")).to_be_visible()
    expect(page.get_by_text(f"curl -F image=@photo.jpg {url}/classify")).to_be_visible()
