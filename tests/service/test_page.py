"""The page at /ui, used by a person in a real browser and answered by the shipped model."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image
from real_server import ROOT, Server, StartServer
from tiny import write_artifact

if os.environ.get("CI") != "true":
    pytest.importorskip("playwright", reason="playwright is not installed, so the page stays untested")

from browser import PAGE, SEVEN, Visitor, launch
from playwright.sync_api import Browser, Route, expect

expect.set_options(timeout=20_000)  # for a busy machine; nothing waits longer than it has to

GARMENTS = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Boot",
]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}

Visit = Callable[..., Visitor]
RequireProgram = Callable[[str], Path]


@pytest.fixture(scope="module")
def server(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """The shipped `mnist-cnn`, one that doubts everything and is sure of nothing, and an uncalibrated one."""
    models = tmp_path_factory.mktemp("models")
    for file in (ROOT / "models").glob("mnist-cnn.*"):
        shutil.copy(file, models)
    unsure = {"conformal_quantile": "1.0", "in_distribution_threshold": "1000"}
    garments = {"dataset": "fashion-mnist", "canonical_form": "garment", "labels": json.dumps(GARMENTS)}
    write_artifact(models, "unsure", **unsure, **garments)
    fitted = ("expected_calibration_error", "conformal_level", "in_distribution_level", *unsure)
    write_artifact(models, "uncalibrated", calibrated="false", **dict.fromkeys(fitted))
    return start_server(models_dir=models)


@pytest.fixture(scope="module")
def small_server(start_server: StartServer) -> Server:
    """One that takes five pictures a request, and two for heat maps."""
    return start_server(models="mnist-cnn", max_images=5, max_queue=100)


@pytest.fixture(scope="module")
def browser(require_program: RequireProgram) -> Iterator[Browser]:
    with launch(require_program("chromium")) as browser:
        yield browser


@pytest.fixture
def visit(browser: Browser, server: Server) -> Iterator[Visit]:
    """Opens the page; whatever a test does there, nothing may come from elsewhere or be complained about."""
    visitors: list[Visitor] = []

    def open_page(
        path: str = "/ui",
        before: Callable[[Visitor], None] = lambda _: None,
        at: Server = server,
        **context: Any,
    ) -> Visitor:
        visitors.append(Visitor(browser, at, **context))
        before(visitors[-1])
        return visitors[-1].open(path)

    yield open_page
    for visitor in visitors:
        visitor.context.unroute_all(behavior="ignoreErrors")
        visitor.context.close()
        elsewhere = [
            url for url in visitor.requests if not url.startswith((visitor.server.url, "blob:", "data:"))
        ]
        assert elsewhere == []
        assert visitor.complaints == []


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Pictures of 7, 2, 1, 0 and 4, the first test images of MNIST, from the model's golden file."""
    folder = tmp_path_factory.mktemp("digits")
    with np.load(ROOT / "models" / "mnist-cnn.golden.npz") as golden:
        images = golden["images"][:5]
    names = ["seven.png", "it's two; really.png", "one.png", "zero.png", "four.png"]
    for name, image in zip(names, images, strict=True):
        Image.fromarray(image).save(folder / name)
    return [folder / name for name in names]


def seen_pixels(visitor: Visitor) -> np.ndarray[Any, Any]:
    """What the page shows as the model's view: uint8 (28, 28, 4)."""
    url = visitor.page.locator("#seen").evaluate("canvas => canvas.toDataURL('image/png')")
    return np.asarray(Image.open(io.BytesIO(b64decode(url.partition(",")[2]))))


def test_a_seven_drawn_with_the_mouse_is_answered_with_seven(visit: Visit) -> None:
    visitor = visit()
    visitor.draw()
    visitor.see("#label", "7")


def test_a_seven_drawn_with_a_finger_on_a_phone_is_answered_with_seven(visit: Visit) -> None:
    visitor = visit(**PHONE)
    visitor.touch([(0.3, 0.2), (0.5, 0.2), (0.7, 0.2), (0.6, 0.5), (0.45, 0.8)])
    visitor.see("#label", "7")


@pytest.mark.parametrize("force", [0.1, 0.9])
def test_a_seven_drawn_with_a_pen_is_answered_with_seven(visit: Visit, force: float) -> None:
    visitor = visit()
    visitor.pen([(0.3, 0.2), (0.5, 0.2), (0.7, 0.2), (0.6, 0.5), (0.45, 0.8)], force)
    visitor.see("#label", "7")


def test_a_one_drawn_with_the_arrow_keys_is_answered_with_one(visit: Visit) -> None:
    visitor = visit()
    visitor.page.locator("#paper").focus()
    visitor.press("Space", *["ArrowDown"] * 25, "Space")
    visitor.see("#label", "1")
    visitor.press("Control+z")
    visitor.see("#label", "")


def test_the_probabilities_change_while_the_pen_is_still_down(visit: Visit) -> None:
    visitor = visit()
    shares = visitor.page.locator("#bars .share")
    visitor.draw([[(0.4, 0.3), (0.4, 0.6)]], lift=False)
    expect(shares.first).to_have_text(re.compile("%"))
    before = shares.all_inner_texts()
    visitor.page.mouse.move(*visitor.on_paper(0.75, 0.6), steps=20)
    visitor.page.mouse.move(*visitor.on_paper(0.75, 0.2), steps=20)
    visitor.page.wait_for_function(
        "before => [...document.querySelectorAll('#bars .share')].some((s, i) => s.innerText !== before[i])",
        arg=before,
    )


def test_undo_takes_back_a_stroke_and_brings_back_what_was_cleared(visit: Visit) -> None:
    visitor = visit()
    visitor.draw([*SEVEN, [(0.1, 0.1), (0.9, 0.9)]])
    visitor.page.click("#undo")
    visitor.see("#label", "7")
    visitor.page.click("#clear")
    visitor.see("#verdict", "The answer follows your pen.")
    visitor.page.click("#undo")
    visitor.see("#label", "7")


def test_several_chosen_pictures_ride_together_and_each_has_its_answer(
    visit: Visit, digits: list[Path]
) -> None:
    visitor = visit()
    visitor.page.set_input_files("#files", digits)
    expect(visitor.page.locator("#strip label span")).to_have_text(["Draw", "7", "2", "1", "0", "4"])
    visitor.see("#label", "7")
    visitor.see("#batch", "Rode with 4 others")
    assert len([url for url in visitor.requests if "/predict" in url]) == 1
    visitor.page.get_by_role("radio", name="one.png: 1").check(force=True)
    visitor.see("#label", "1")


def test_a_dropped_file_is_answered(visit: Visit, digits: list[Path]) -> None:
    visitor = visit()
    visitor.drop(digits[1], digits[4])
    visitor.see("#label", "2")
    expect(visitor.page.locator("#strip label span")).to_have_text(["Draw", "2", "4"])


def test_a_pasted_picture_is_answered(visit: Visit, digits: list[Path]) -> None:
    visitor = visit(permissions=["clipboard-read", "clipboard-write"])
    copy = """bytes => navigator.clipboard.write(
        [new ClipboardItem({"image/png": new Blob([new Uint8Array(bytes)], {type: "image/png"})})])"""
    visitor.page.evaluate(copy, list(digits[4].read_bytes()))
    visitor.press("Control+v")
    visitor.see("#label", "4")


def test_removing_a_picture_leads_to_its_neighbour_and_at_last_to_the_drawing(
    visit: Visit, digits: list[Path]
) -> None:
    visitor = visit()
    visitor.page.set_input_files("#files", digits[:3])
    visitor.see("#label", "7")
    visitor.page.click("#remove")
    visitor.see("#label", "2")
    visitor.page.click("text=Remove all")
    expect(visitor.page.locator("#paper")).to_be_focused()
    expect(visitor.page.locator("#strip")).to_be_hidden()


def test_a_picture_removed_while_it_is_asked_about_leaves_the_others_their_answers(
    visit: Visit, digits: list[Path]
) -> None:
    visitor = visit()
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    visitor.page.route("**/predict*", hold)
    with visitor.page.expect_request("**/predict*"):
        visitor.page.set_input_files("#files", digits[:3])
    visitor.page.click("#remove")
    for route in held:
        route.continue_()
    visitor.see("#label", "2")
    visitor.page.click("#remove")
    visitor.see("#label", "1")


def test_a_file_that_is_no_picture_is_refused_in_words(visit: Visit, tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("seven")
    visitor = visit()
    visitor.page.set_input_files("#files", note)
    refusal = httpx2.post(f"{visitor.server.url}/predict", content=b"seven").json()["error"]["message"]
    visitor.see("#verdict", refusal)
    visitor.see("#status", f"note.txt: {refusal}")


def test_a_bad_picture_among_good_ones_fails_alone(visit: Visit, digits: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(digits[0].read_bytes()[:60])
    visitor = visit()
    visitor.page.set_input_files("#files", [digits[0], broken, digits[2]])
    expect(visitor.page.locator("#strip label span")).to_have_text(["Draw", "7", "!", "1"])


def test_a_format_that_browsers_do_not_show_is_shown_as_the_model_saw_it(
    visit: Visit, digits: list[Path], tmp_path: Path
) -> None:
    Image.open(digits[3]).save(tmp_path / "zero.tif")
    visitor = visit()
    visitor.page.set_input_files("#files", tmp_path / "zero.tif")
    visitor.see("#label", "0")
    expect(visitor.page.locator("#shown canvas")).to_be_visible()


def test_a_silent_service_is_named_and_can_be_asked_again_about_all(visit: Visit, digits: list[Path]) -> None:
    visitor = visit()
    visitor.context.set_offline(True)
    visitor.page.set_input_files("#files", digits[:3])
    visitor.see("#verdict", "The service gave no answer. Is it still running?")
    visitor.context.set_offline(False)
    visitor.page.click("text=Try again")
    visitor.see("#label", "7")
    expect(visitor.page.locator("#strip label span")).to_have_text(["Draw", "7", "2", "1"])
    expect(visitor.page.locator("#remove")).to_be_focused()


def test_a_dropped_folder_and_a_file_that_has_changed_since_fail_alone(
    visit: Visit, digits: list[Path], tmp_path: Path
) -> None:
    visitor = visit()
    folder, changing = tmp_path / "folder", tmp_path / "changing.png"
    folder.mkdir()
    changing.write_bytes(digits[1].read_bytes())
    visitor.drop(digits[0], folder, changing)
    marks = visitor.page.locator("#strip label span")
    expect(marks).to_have_text(["Draw", "7", "!", "2"])
    changing.write_bytes(digits[2].read_bytes() + b" and more")
    visitor.page.select_option("#model", "uncalibrated")
    expect(marks).to_have_text(["Draw", re.compile(r"\d"), "!", "!"])
    visitor.page.get_by_role("radio", name="changing.png").check(force=True)
    visitor.see("#verdict", "This is a folder, or the file has changed: choose it again.")


def test_a_key_that_is_asked_for_later_can_be_given_without_losing_anything(
    visit: Visit, digits: list[Path]
) -> None:
    visitor = visit()
    error = {"error": {"code": "unauthorized", "message": "This API key is not known here."}}
    visitor.page.route("**/predict*", lambda route: route.fulfill(status=401, json=error))
    visitor.page.set_input_files("#files", digits[:2])
    field = visitor.page.get_by_role("textbox", name="This API key is not known here.")
    expect(field).to_be_focused()
    visitor.page.unroute("**/predict*")
    field.fill("another")
    visitor.press("Enter")
    expect(visitor.page.locator("#strip label span")).to_have_text(["Draw", "7", "2"])


def test_what_is_not_the_services_answer_is_told_and_can_be_asked_again(
    visit: Visit, digits: list[Path]
) -> None:
    visitor = visit()
    visitor.page.route("**/predict*", lambda route: route.fulfill(json={"welcome": "to the hotel's network"}))
    visitor.page.set_input_files("#files", digits[0])
    visitor.see("#verdict", "This answer is not of the service: something stands between it and this page.")
    visitor.page.unroute("**/predict*")
    visitor.page.click("text=Try again")
    visitor.see("#label", "7")


def test_clearing_the_paper_clears_the_answer_at_once(visit: Visit) -> None:
    visitor = visit()
    visitor.draw()
    visitor.see("#label", "7")
    visitor.page.route("**/predict*", lambda _: None)  # never answered
    visitor.draw([[(0.2, 0.8), (0.3, 0.8)]])
    visitor.page.click("#clear")
    visitor.see("#label", "")


def test_many_large_files_go_in_requests_that_arrive_in_time(visit: Visit, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (800, 800, 3), dtype=np.uint8)
    for name in "abc":
        Image.fromarray(noise).save(tmp_path / f"{name}.png")  # 1.9 MB each
    visitor = visit()
    visitor.page.set_input_files("#files", [tmp_path / f"{name}.png" for name in "abc"])
    expect(visitor.page.locator("#strip label span").filter(has_text="…")).to_have_count(0)
    assert len([url for url in visitor.requests if "/predict" in url]) == 3


def test_the_page_shows_the_very_pixels_that_the_model_saw(visit: Visit, digits: list[Path]) -> None:
    picture = Image.open(digits[0]).resize((200, 100)).rotate(10, fillcolor=0)
    body = io.BytesIO()
    picture.save(body, "PNG")
    visitor = visit()
    answer = httpx2.post(f"{visitor.server.url}/predict?pixels=true", content=body.getvalue()).json()
    pixels = np.frombuffer(b64decode(answer["predictions"][0]["pixels"]), np.uint8).reshape(28, 28)
    file = {"name": "seven.png", "mimeType": "image/png", "buffer": body.getvalue()}
    visitor.page.set_input_files("#files", file)
    expect(visitor.page.locator("#seen")).to_have_accessible_name("The 28 by 28 pixels that the model saw")
    shown = seen_pixels(visitor)
    assert (shown[:, :, :3] == pixels[:, :, np.newaxis]).all()
    assert (shown[:, :, 3] == 255).all()


def test_prediction_set_and_doubt_are_shown(visit: Visit) -> None:
    visitor = visit()
    visitor.draw()
    visitor.see("#label", "7")
    expect(visitor.page.locator("#set")).to_have_text(re.compile("^7.*holds the truth 99 % of the time$"))
    expect(visitor.page.locator("#doubt")).to_be_hidden()
    visitor.page.select_option("#model", "unsure")
    visitor.see("#doubt", "Doubtful: unlike any garment it was trained on")
    expect(visitor.page.locator("#set")).to_contain_text(" or ")
    expect(visitor.page.locator("#bars .in-set")).to_have_count(10)


def test_what_an_uncalibrated_model_cannot_tell_is_left_open(visit: Visit) -> None:
    visitor = visit()
    visitor.draw()
    visitor.page.select_option("#model", "uncalibrated")
    visitor.see("#set", "This model is not calibrated")
    visitor.see("#familiar", "This model is not calibrated")
    expect(visitor.page.locator("#doubt")).to_be_hidden()


def test_another_model_answers_everything_anew(visit: Visit, digits: list[Path]) -> None:
    visitor = visit()
    visitor.draw()
    visitor.page.set_input_files("#files", digits[0])
    visitor.see("#label", "7")
    visitor.page.select_option("#model", "unsure")
    expect(visitor.page.locator("#bars .name")).to_have_text(GARMENTS)
    expect(visitor.page.locator("#strip label span")).to_have_text([GARMENTS[0]] * 2)
    [card] = [m for m in httpx2.get(f"{visitor.server.url}/models").json()["models"] if m["name"] == "unsure"]
    visitor.see("#card", f"50.00 % right in its testversion {card['version']}")


def test_a_heat_map_is_laid_over_the_pixels_where_the_service_says_that_the_model_looked(
    visit: Visit,
) -> None:
    visitor = visit()
    visitor.draw()
    visitor.see("#label", "7")
    visitor.hear("^7")
    plain = seen_pixels(visitor)
    with visitor.page.expect_response(re.compile("explain=true")) as response:
        visitor.page.get_by_label("Heat map").check()
    name = "The 28 by 28 pixels that the model saw, and where it looked"
    expect(visitor.page.locator("#seen")).to_have_accessible_name(name)
    heated = seen_pixels(visitor)
    [prediction] = response.value.json()["predictions"]
    heat = np.frombuffer(b64decode(prediction["heat_map"]), np.uint8).reshape(28, 28)
    assert heat.max() == 255
    red, _, blue, _ = heated[np.unravel_index(heat.argmax(), heat.shape)]
    assert red > 200
    assert blue < 50
    cold = heat == 0
    assert cold.any()
    assert (heated[cold] == plain[cold]).all()
    visitor.page.get_by_label("Heat map").uncheck()
    expect(visitor.page.locator("#seen")).to_have_accessible_name("The 28 by 28 pixels that the model saw")
    assert (seen_pixels(visitor) == plain).all()


@pytest.mark.parametrize("explained", [False, True])
def test_many_pictures_go_in_requests_that_the_service_takes(
    visit: Visit, small_server: Server, server: Server, digits: list[Path], *, explained: bool
) -> None:
    for at, count in ((small_server, 13), (server, 18)):
        visitor = visit(at=at)
        visitor.page.get_by_label("Heat map").set_checked(explained)
        visitor.page.set_input_files("#files", (digits * 20)[:count])
        expect(visitor.page.locator("#strip label span", has_text=re.compile("^[0-9]$"))).to_have_count(count)
        seen = re.compile("where it looked" if explained else "that the model saw")
        expect(visitor.page.locator("#seen")).to_have_accessible_name(seen)


def test_a_model_without_heat_maps_offers_none(visit: Visit) -> None:
    def without_heat_maps(route: Route) -> None:
        """What a service says whose queue is too short for them."""
        answer = route.fetch()
        body = answer.json()
        for model in body["models"]:
            model["max_explained_images"] = 0
        route.fulfill(response=answer, json=body)

    visitor = visit(before=lambda visitor: visitor.context.route(re.compile("/models"), without_heat_maps))
    expect(visitor.page.get_by_label("Heat map")).to_be_hidden()


def test_two_digits_on_the_sheet_are_refused_with_the_services_own_sentence(visit: Visit) -> None:
    visitor = visit()
    visitor.draw([[(0.2, 0.3), (0.4, 0.3), (0.28, 0.75)], [(0.7, 0.25), (0.7, 0.8)]])
    expect(visitor.page.locator("#verdict")).to_have_text(re.compile("^The picture shows 2 digits"))


def test_the_time_and_the_batch_are_shown_as_the_service_measured_them(
    visit: Visit, digits: list[Path]
) -> None:
    visitor = visit()
    with visitor.page.expect_response(re.compile("/predict")) as response:
        visitor.page.set_input_files("#files", digits[0])
    read, queue, compute = re.findall(r"dur=([\d.]+)", response.value.headers["server-timing"])
    stages = f"read {read} · queue {queue} · compute {compute}"
    expect(visitor.page.locator("#time")).to_have_text(re.compile(rf"^[\d.]+ ms there and back{stages}$"))
    visitor.see("#batch", "Rode alone")


@pytest.mark.parametrize("source", ["drawing", "files"])
def test_the_copied_curl_command_gives_the_same_answer(
    visit: Visit, digits: list[Path], require_program: RequireProgram, source: str
) -> None:
    require_program("curl")
    visitor = visit(permissions=["clipboard-read", "clipboard-write"])
    if source == "drawing":
        visitor.draw()
    else:
        visitor.page.set_input_files("#files", digits[:2])
    visitor.hear("7")
    shares = visitor.page.locator("#bars .share").all_inner_texts()
    visitor.page.click("text=Copy")
    visitor.hear("Copied")
    command = visitor.page.evaluate("navigator.clipboard.readText()")
    asked = subprocess.run(
        ["sh", "-c", f"{command} --silent"], cwd=digits[0].parent, capture_output=True, check=True
    )
    predictions = json.loads(asked.stdout)["predictions"]
    assert [p["label"] for p in predictions] == ["7", "2"][: len(predictions)]
    assert len(predictions) == (1 if source == "drawing" else 2)
    by_label = {entry["label"]: 100 * entry["probability"] for entry in predictions[0]["top"]}
    for label, share in enumerate(shares):
        shown = float(re.sub("[^0-9.]", "", share))
        assert shown == pytest.approx(by_label[str(label)], abs=0.1)


def test_without_a_secure_context_copying_still_works(visit: Visit) -> None:
    visitor = visit(permissions=["clipboard-read", "clipboard-write"])
    visitor.page.evaluate("Object.defineProperty(navigator.clipboard, 'writeText', {value: undefined})")
    visitor.draw()
    visitor.hear("7")
    visitor.page.click("text=Copy")
    visitor.hear("Copied")
    assert visitor.page.evaluate("navigator.clipboard.readText()").startswith("curl 'http://127.0.0.1")


def test_everything_is_reached_with_the_tab_key_and_shows_where_the_focus_is(
    visit: Visit, digits: list[Path]
) -> None:
    visitor = visit()
    visitor.page.set_input_files("#files", digits[:2])
    visitor.see("#label", "7")
    focus = """() => {
        const focused = document.activeElement;
        const outlined = focused.matches(".unseen") ? focused.parentElement : focused;
        const outlines = [outlined, ...outlined.children].map(part => getComputedStyle(part).outlineStyle);
        return [focused.id || focused.name || focused.textContent, outlines.includes("solid")];
    }"""
    visitor.page.mouse.click(2, 2)  # newer Chromiums go on from what was scrolled into view
    reached = []
    for _ in range(10):
        visitor.press("Tab")
        name, is_outlined = visitor.page.evaluate(focus)
        assert is_outlined, name
        reached.append(name)
    in_order = [
        "model",
        "draw",
        "remove",
        "files",
        "heat",
        "subject",
        "Remove all",
        "command",
        "copy",
        "API explorer",
    ]
    assert reached == in_order
    visitor.page.locator("[name=subject]:checked").focus()
    visitor.press("ArrowLeft")  # to the drawing
    expect(visitor.page.locator("#paper")).to_be_visible()


def test_a_screen_reader_hears_the_answer_and_finds_every_part_by_name(visit: Visit) -> None:
    visitor = visit()
    visitor.draw()
    visitor.hear(r"^7, [\d.> ]+%\.")
    assert visitor.page.locator("#status").get_attribute("aria-live") == "polite"
    find = visitor.page.get_by_role
    for role, name in [
        ("combobox", "Model"),
        ("application", "Drawing area"),
        ("region", "The answer"),
        ("list", "Probability of each label"),
        ("button", "Undo"),
        ("button", "Choose pictures"),
        ("img", "The 28 by 28 pixels that the model saw"),
        ("region", "The same from a terminal"),
    ]:
        expect(find(role, name=name, exact=True)).to_have_count(1)
    expect(find("application")).to_have_accessible_description(re.compile("Arrow keys move the pen"))
    expect(find("listitem").nth(7)).to_have_text(re.compile(r"^7.*%$"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground_in_light_and_in_dark(visit: Visit, scheme: str) -> None:
    visitor = visit(color_scheme=scheme)
    script = "names => names.map(n => getComputedStyle(document.documentElement).getPropertyValue(n))"
    names = ["ground", "paper", "ink", "quiet", "signal", "accent", "on-accent"]
    values = visitor.page.evaluate(script, [f"--{name}" for name in names])
    luminance = {name: relative_luminance(value) for name, value in zip(names, values, strict=True)}
    assert (luminance["ground"] < 0.1) == (scheme == "dark")
    pairs = [(text, ground) for text in ("ink", "quiet", "signal") for ground in ("ground", "paper")]
    for text, ground in [*pairs, ("on-accent", "accent")]:
        darker, lighter = sorted([luminance[text], luminance[ground]])
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (text, ground)


def relative_luminance(colour: str) -> float:
    """Of `#rrggbb`, as WCAG 2 defines it."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_on_a_phone_nothing_is_cut_off_and_drawing_does_not_scroll(visit: Visit, digits: list[Path]) -> None:
    visitor = visit(**PHONE)
    visitor.page.set_input_files("#files", digits)
    visitor.see("#label", "7")
    assert visitor.page.evaluate("document.documentElement.scrollWidth") == 390
    visitor.page.get_by_role("button", name="Draw").tap()
    visitor.touch([(0.5, 0.9), (0.5, 0.6), (0.5, 0.3), (0.5, 0.1)])
    visitor.see("#label", "1")
    assert visitor.page.evaluate("scrollY") == 0


def test_a_phone_on_its_side_shows_the_whole_paper_and_its_tools(visit: Visit) -> None:
    visitor = visit(**{**PHONE, "viewport": {"width": 844, "height": 390}})
    for part in ("#paper", "#clear"):
        box = visitor.page.locator(part).bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= 390, part


def test_who_wants_no_motion_gets_none(visit: Visit) -> None:
    durations = []
    for motion in ("no-preference", "reduce"):
        fill = visit(reduced_motion=motion).page.locator("#bars .fill").first
        durations.append(fill.evaluate("fill => getComputedStyle(fill).transitionDuration"))
    assert durations[0] != durations[1] == "0s"


def test_behind_a_proxy_that_adds_a_prefix_the_page_works(visit: Visit) -> None:
    def strip_prefix(route: Route) -> None:
        route.fulfill(response=route.fetch(url=route.request.url.replace("/vision/", "/")))

    visitor = visit("/vision/ui", before=lambda visitor: visitor.context.route("**/vision/**", strip_prefix))
    visitor.draw()
    visitor.see("#label", "7")
    assert all(url.startswith(f"{visitor.server.url}/vision/") for url in visitor.requests)


def test_the_policy_of_the_page_allows_its_own_files_alone(visit: Visit) -> None:
    visitor = visit()
    policy = httpx2.get(f"{visitor.server.url}/ui").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_it_says_that_pictures_are_not_kept(visit: Visit) -> None:
    expect(visit().page.get_by_text("Pictures are not kept")).to_be_visible()


def test_the_page_weighs_less_than_100_kb_and_its_screenshot_less_than_150() -> None:
    weights = {path.name: path.stat().st_size for path in PAGE.iterdir()}
    assert weights.pop("screenshot.png") < 150_000
    assert sum(weights.values()) < 100_000
