// What our nodes report stands on them, and stays there until their next run.
//
// ComfyUI itself draws `ui.text` on its own two text nodes only, and clears progress texts at the end of a run.
import { app } from "../../scripts/app.js";

const OURS = /^(Pulid|Wavespeed)/;
const TEXT = "report_on_node";
const PROGRESS = "$$node-text-preview";
const WIDTH = 320;
const LINE = 15;
const STYLE = {
  boxSizing: "border-box",
  width: "100%",
  height: "100%",
  padding: "4px 8px",
  overflow: "auto",
  whiteSpace: "pre-wrap",
  overflowWrap: "anywhere",
  font: "11px/1.35 sans-serif",
  color: "var(--input-text)",
  background: "var(--comfy-input-bg)",
  borderRadius: "6px",
  userSelect: "text",
};

function remove(node, name) {
  const widget = node.widgets?.find((one) => one.name === name);
  if (!widget) return;
  widget.onRemove?.();
  node.widgets.splice(node.widgets.indexOf(widget), 1);
}

function height(text, width) {
  const letters = Math.max(20, (width - 50) / 6);
  const lines = text.split("\n").map((line) => Math.max(1, Math.ceil(line.length / letters)));
  return Math.min(12, lines.reduce((sum, count) => sum + count, 0)) * LINE + 30;
}

function show(node, text) {
  remove(node, PROGRESS);
  remove(node, TEXT);
  if (text) {
    const box = Object.assign(document.createElement("div"), { textContent: text });
    Object.assign(box.style, STYLE);
    const high = height(text, node.size[0]);
    const widget = node.addDOMWidget(TEXT, TEXT, box, {
      serialize: false,
      getValue: () => text,
      setValue: () => {},
      getMinHeight: () => high,
      getMaxHeight: () => high,
    });
    widget.serialize = false;
    const [width, least] = node.computeSize();
    node.setSize([Math.max(width, node.size[0]), Math.max(least, node.size[1])]);
  }
  app.graph.setDirtyCanvas(true, true);
}

app.registerExtension({
  name: "pulid-for-flux.node-text",
  beforeRegisterNodeDef(nodeType, { name }) {
    if (!OURS.test(name)) return;
    const { onExecuted, onNodeCreated } = nodeType.prototype;
    nodeType.prototype.onNodeCreated = function (...values) {
      onNodeCreated?.apply(this, values);
      this.setSize([Math.max(WIDTH, this.size[0]), this.size[1]]);
    };
    nodeType.prototype.onExecuted = function (output, ...values) {
      onExecuted?.call(this, output, ...values);
      if (output?.text) show(this, output.text.join("\n"));
    };
  },
});
