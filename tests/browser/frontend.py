"""ComfyUI's frontend as a user works with it: buttons, menus, keys and the mouse.

`window.app` is asked only for what a user sees without words: where a node is, what a graph holds.
"""

import contextlib
import re
import time
from dataclasses import dataclass, field
from typing import Any

import requests
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Response
from playwright.sync_api import TimeoutError as PlaywrightTimeout
from pulid_pack.devtools.comfyui import PACK_NAME, ComfyServer

TIMEOUT_MS = 120_000
RUN_TIMEOUT_S = 600
FRONTENDS_OWN = {"upload"}
"""Sockets that a frontend adds where a picture is chosen."""
OURS = re.compile(r"pulid|wavespeed", re.IGNORECASE)
# It asks for a page in the user's language first, and takes docs/NODE.md when there is none.
PROBE = re.compile(r"/docs/\w+/[\w-]+\.md$")
ROUND_TRIP = "JSON.parse(JSON.stringify(app.graph.serialize()))"  # drops what is undefined

TO_SCREEN = """([x, y]) => {
    const { canvas, ds } = app.canvas, corner = canvas.getBoundingClientRect();
    return [corner.left + (x + ds.offset[0]) * ds.scale, corner.top + (y + ds.offset[1]) * ds.scale];
}"""
# Every node as it stands on the screen, and what lies over its corners, if not the graph itself.
LOOK = """() => {
    const { canvas, ds } = app.canvas, corner = canvas.getBoundingClientRect();
    const ours = "[data-node-id], .dom-widget, .comfy-markdown, .comfy-multiline-input";
    const over = (x, y) => {
        const top = document.elementFromPoint(x, y);
        return top === canvas || top?.closest(ours) ? [] : [top?.outerHTML.slice(0, 200) ?? "edge"];
    };
    return app.graph.nodes.map((node) => {
        const drawn = document.querySelector(`[data-node-id="${node.id}"]`)?.getBoundingClientRect();
        let [x, y, w, h] = node.boundingRect;
        x = corner.left + (x + ds.offset[0]) * ds.scale, y = corner.top + (y + ds.offset[1]) * ds.scale;
        w *= ds.scale, h *= ds.scale;
        if (drawn) ({ x, y, width: w, height: h } = drawn);
        const [left, top, right, bottom] = [x + 3, y + 3, x + w - 3, y + h - 3];
        const covered = [[left, top], [right, top], [left, bottom], [right, bottom]].flatMap(
            ([x, y]) => over(x, y));
        return { name: node.title, box: [x, y, x + w, y + h], covered };
    });
}"""
# Of each note: how high its text is, and how high the room for it.
NOTES = """() => [...document.querySelectorAll(".comfy-markdown, .widget-markdown")]
    .filter((note) => note.checkVisibility())
    .map((note) => [note.innerText, note.scrollHeight, note.clientHeight])"""
HEAR = """() => {
    window.heard = { titles: [], interrupted: 0 };
    new MutationObserver(() => heard.titles.push(document.title)).observe(
        document.querySelector("title"), { childList: true });
    app.api.addEventListener("execution_interrupted", () => { heard.interrupted = Date.now(); });
}"""


@dataclass
class Frontend:
    """One browser window on one ComfyUI.

    Attributes:
        complaints: What the browser's console and network say against this pack.
    """

    page: Page
    server: ComfyServer
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self):
        self.page.on("console", self._hear_console)
        self.page.on("response", self._hear_response)
        self.page.on("pageerror", lambda error: self.complaints.append(f"exception: {error}"))

    @classmethod
    def in_new_window(cls, browser: Browser, server: ComfyServer) -> "Frontend":
        """Open a window that remembers nothing, and wait until a user could begin."""
        context = browser.new_context(viewport={"width": 1600, "height": 1000})
        context.set_default_timeout(TIMEOUT_MS)
        window = cls(context.new_page(), server)
        window.page.goto(server.url)
        window.page.wait_for_function("window.app?.graph && app.extensionManager?.workflow")
        window.button("Templates").wait_for()
        window.send_away_greetings()
        window.page.evaluate(HEAR)
        return window

    def send_away_greetings(self) -> None:
        """Close what greets the first visit, which some frontends do a moment later."""
        dialog = self.page.get_by_role("dialog")
        for _ in range(3):
            self.page.wait_for_timeout(500)
            if dialog.count():
                self.page.keyboard.press("Escape")
                self.page.wait_for_timeout(500)
            if dialog.count():
                dialog.get_by_label("Close").first.click()

    def close(self) -> None:
        """Close the window."""
        self.page.context.close()

    def _hear_console(self, message: ConsoleMessage) -> None:
        url = message.location.get("url", "")
        if (
            message.type == "error"
            and OURS.search(f"{message.text} {url}")
            and not PROBE.search(url)
            # The frontend asks other hosts about models and packs, which ComfyUI's own policy forbids.
            and "Content Security Policy" not in message.text
        ):
            self.complaints.append(f"console: {message.text} {url}")

    def _hear_response(self, response: Response) -> None:
        url = response.url
        if response.status >= 400 and PACK_NAME in url and not PROBE.search(url):
            self.complaints.append(f"{response.status}: {url}")

    def button(self, label: str) -> Locator:
        """A button by the beginning of its label; some labels end with a key."""
        return self.page.locator(f"button[aria-label^='{label}']").first

    # Workflows

    def open_template(self, name: str) -> None:
        """Open one of our workflows from the template browser."""
        self.find_template(name).click()
        self._wait_for_workflow(name)

    def find_template(self, name: str) -> Locator:
        """Open the template browser, if it is not, at one of our workflows."""
        dialog = self.page.get_by_role("dialog")
        if not dialog.count():
            self.button("Templates").click()
            dialog.get_by_text(PACK_NAME, exact=True).last.click()
        thumbnail = dialog.get_by_test_id(f"template-workflow-{name}")
        thumbnail.scroll_into_view_if_needed()
        image = thumbnail.locator("img").first
        image.wait_for()
        self.wait_until_loaded(image)
        return thumbnail

    def wait_until_loaded(self, images: Locator) -> None:
        """Wait until pictures are there, and not their alternative text."""
        for image in images.element_handles():
            self.page.wait_for_function("(image) => image.naturalWidth > 0", arg=image)

    def save_as(self, name: str) -> None:
        """Save the workflow with Ctrl+S."""
        self.page.keyboard.press("Control+s")
        box = self.page.get_by_role("dialog").get_by_role("textbox")
        box.fill(name)
        box.press("Enter")
        self.page.wait_for_function(
            "(path) => app.extensionManager.workflow.activeWorkflow?.path === path",
            arg=f"workflows/{name}.json",
        )

    def open_saved(self, name: str) -> None:
        """Open a saved workflow from the sidebar."""
        self.button("Workflows").click()
        sidebar = self.page.locator(".comfy-vue-side-bar-container")
        sidebar.get_by_text(re.compile(rf"^{re.escape(name)}(\.json)?$")).last.click()
        self._wait_for_workflow(name)
        self.button("Workflows").click()

    def new_workflow(self) -> None:
        """Open an empty canvas."""
        self.button("Create a new blank workflow").click()
        self.page.wait_for_function("app.graph.nodes.length === 0")
        self.page.wait_for_timeout(500)  # the canvas takes no clicks while the tab changes

    def _wait_for_workflow(self, name: str) -> None:
        self.page.wait_for_function(
            "(name) => app.extensionManager.workflow.activeWorkflow?.filename.startsWith(name)"
            " && app.graph.nodes.length > 0",
            arg=name,
        )
        self.page.get_by_role("dialog").first.wait_for(state="hidden")

    def graph(self) -> dict[str, Any]:
        """The open workflow as it would be saved."""
        return self.page.evaluate(ROUND_TRIP)

    def prompt(self) -> dict[str, Any]:
        """The open workflow as the frontend would send it to the server."""
        return self.page.evaluate("app.graphToPrompt().then((result) => result.output)")

    def app_mode(self) -> str:
        """Switch to the newest frontend's app mode, and return all that is read there."""
        self.button("Enter app mode").click()
        self.page.get_by_text("Number of runs").wait_for()
        return self.page.locator("body").inner_text()

    def leave_app_mode(self) -> None:
        """Go back to the graph."""
        self.page.keyboard.press("Escape")  # the greeting of the first visit
        self.button("Enter node graph").click()
        self.button("Enter app mode").wait_for()

    def zoom(self) -> float:
        """How large the graph is shown; texts vanish below 0.57."""
        return self.page.evaluate("app.canvas.ds.scale")

    def look(self) -> list[dict[str, Any]]:
        """Every node on the screen: name, box (left, top, right, bottom), what covers its corners."""
        return self.page.evaluate(LOOK)

    def notes(self) -> list[tuple[str, float, float]]:
        """Every note's text, its height, and the height of the room for it."""
        return self.page.evaluate(NOTES)

    def use_nodes_2(self, wanted: bool) -> None:
        """Switch Nodes 2.0 on or off, as its users have."""
        setting = "app.extensionManager.setting"
        self.page.evaluate(f"(on) => {setting}.set('Comfy.VueNodes.Enabled', on)", wanted)
        self.page.wait_for_timeout(500)

    def shown_text(self, kind: str) -> str:
        """The text that stands on the one node of a type, as a user reads it."""
        return self.page.evaluate(
            """(kind) => { const node = app.graph.nodes.find((one) => one.type === kind);
                 const box = node.widgets?.find((one) => one.name === "report_on_node")?.element;
                 const { width, height } = box?.getBoundingClientRect() ?? {};
                 return width > 150 && height > 8 && box.checkVisibility() ? box.innerText : ""; }""",
            kind,
        )

    def unknown_nodes(self) -> list[str]:
        """Types of nodes that this frontend cannot show, or marks as wrong."""
        return self.page.evaluate(
            """app.graph.nodes.filter((n) => n.has_errors ||
                 !(n.type in LiteGraph.registered_node_types)).map((n) => n.type)"""
        )

    # Running

    def press_run(self) -> str:
        """Press Run and return the prompt's id."""
        with self.page.expect_response(lambda answer: answer.url.endswith("/prompt")) as answer:
            self.page.get_by_role("button", name="Run", exact=True).first.click()
        result = answer.value.json()
        assert answer.value.ok, result
        return result["prompt_id"]

    def refused_run(self) -> dict[str, Any]:
        """Press Run and return why the server refuses."""
        with self.page.expect_response(lambda answer: answer.url.endswith("/prompt")) as answer:
            self.page.get_by_role("button", name="Run", exact=True).first.click()
        assert answer.value.status == 400
        return answer.value.json()

    def issues(self) -> str:
        """The text of the newest frontend's panel of issues, opened from the message about them."""
        self.page.get_by_text("View details").last.click()
        self.page.wait_for_timeout(1000)
        panel = self.page.get_by_text("Workflow Overview").locator("xpath=ancestor::*[4]")
        return panel.inner_text()

    def press_cancel(self) -> None:
        """Press the cross beside Run."""
        self.button("Cancel current run").click()

    def wait_for_end(self, prompt_id: str) -> dict[str, Any]:
        """Wait until the server is through with a prompt, and return its history entry."""
        deadline = time.monotonic() + RUN_TIMEOUT_S
        while time.monotonic() < deadline:
            answer = requests.get(f"{self.server.url}/history/{prompt_id}", timeout=60).json()
            if prompt_id in answer:
                return answer[prompt_id]
            self.page.wait_for_timeout(100)
        raise TimeoutError(f"No end after {RUN_TIMEOUT_S} s.\n{self.server.log_text()[-3000:]}")

    def wait_for_pictures(self, node_id: str) -> None:
        """Wait until a node shows its pictures, really loaded."""
        self.page.wait_for_function(
            """(id) => { const { imgs } = app.graph.getNodeById(id);
                         return imgs?.length && [...imgs].every((i) => i.naturalWidth > 0); }""",
            arg=node_id,
        )

    def heard(self, name: str) -> Any:
        """What the page noted since it was opened: "titles", or the time of "interrupted"."""
        return self.page.evaluate(f"heard.{name}")

    # Nodes

    def search(self, term: str) -> list[str]:
        """Names that the search box of an empty canvas offers for a term, best first."""
        box = self.page.get_by_placeholder(re.compile("node", re.IGNORECASE))
        for _ in range(5):  # on a busy machine the two clicks may count as single ones
            self.page.mouse.dblclick(900, 600)
            with contextlib.suppress(PlaywrightTimeout):
                box.wait_for(timeout=3000)
                break
        box.fill(term)
        options = self.page.get_by_role("option")
        options.first.wait_for()
        before, offered = [], options.all_inner_texts()
        while offered != before:  # it searches when typing has paused
            self.page.wait_for_timeout(600)
            before, offered = offered, options.all_inner_texts()
        self.page.keyboard.press("Escape")
        box.wait_for(state="hidden")
        return [text.replace("\xa0", " ").split("\n")[0].strip() for text in offered]

    def add_node(self, kind: str, x: int = 0, y: int = 0) -> str:
        """Put a node on the canvas and return its id."""
        return self.page.evaluate(
            """([kind, x, y]) => { const node = LiteGraph.createNode(kind);
                 node.pos = [x, y]; app.graph.add(node); return String(node.id); }""",
            [kind, x, y],
        )

    def node_of(self, kind: str) -> str:
        """The id of the one node of a type."""
        return self.page.evaluate(
            "(kind) => String(app.graph.nodes.find((node) => node.type === kind).id)", kind
        )

    def choose(self, node_id: str, widget: str, value: str | int) -> None:
        """Choose a value in a widget of a node."""
        self.page.evaluate(
            """([id, name, value]) => { const node = app.graph.getNodeById(id);
                 const widget = node.widgets.find((one) => one.name === name);
                 widget.value = value; widget.callback?.(value); }""",
            [node_id, widget, value],
        )

    def widget(self, node_id: str, label: str) -> Any:
        """The value of a widget of a node."""
        return self.page.evaluate(
            "([id, label]) => app.graph.getNodeById(id).widgets.find((w) => w.label === label).value",
            [node_id, label],
        )

    def connect(self, source: str, slot: int, target: str, name: str) -> None:
        """Draw a link from an output to an input."""
        self.page.evaluate(
            """([source, slot, target, name]) => app.graph.getNodeById(source).connect(
                 slot, app.graph.getNodeById(target), name)""",
            [source, slot, target, name],
        )

    def height(self, node_id: str) -> float:
        """How high a node is, in the graph's own units."""
        return self.page.evaluate("(id) => app.graph.getNodeById(id).size[1]", node_id)

    def socket_places(self, node_id: str, side: str) -> dict[str, tuple[float, float]]:
        """Where on the screen the "inputs" or "outputs" of a node are, by name.

        Of an input it is the left edge, where a text box begins.
        """
        places = self.page.evaluate(
            """([id, side]) => { const node = app.graph.getNodeById(id), isInput = side === "inputs";
                 return node[side].map((socket, slot) => {
                     const [x, y] = isInput ? node.getInputPos(slot) : node.getOutputPos(slot);
                     return [socket.name, [x - 6, y]]; }); }""",
            [node_id, side],
        )
        return {name: tuple(self.page.evaluate(TO_SCREEN, place)) for name, place in places}

    def title_place(self, node_id: str) -> tuple[float, float]:
        """Where on the screen a node's title is."""
        left, top = self.page.evaluate("(id) => [...app.graph.getNodeById(id).pos]", node_id)
        return tuple(self.page.evaluate(TO_SCREEN, [left + 70, top - 14]))

    def tooltip(self, place: tuple[float, float]) -> str:
        """The text that appears where the mouse rests."""
        self.page.mouse.move(5, 500)
        self.page.mouse.move(*place, steps=3)
        box = self.page.locator(".node-tooltip")
        box.wait_for()
        return box.inner_text()

    def help(self, node_id: str) -> Locator:
        """A node's help page, opened by the button that belongs to the selected node."""
        button = self.page.get_by_test_id("info-button")
        for _ in range(5):  # a node takes no clicks before it is drawn
            self.page.mouse.click(*self.title_place(node_id))
            with contextlib.suppress(PlaywrightTimeout):
                button.wait_for(timeout=3000)
                break
        button.click()
        page = self.page.locator(".node-help-content")
        page.locator("h1, h2, p").first.wait_for()
        return page

    # Pictures

    def picture_of(self, boxes: list[list[float]], margin: float = 12) -> bytes:
        """What stands in these boxes on the screen."""
        left, top = (min(box[i] for box in boxes) - margin for i in (0, 1))
        right, bottom = (max(box[i] for box in boxes) + margin for i in (2, 3))
        clip = {"x": left, "y": top, "width": right - left, "height": bottom - top}
        return self.page.screenshot(clip=clip)
