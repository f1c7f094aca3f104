// The legend of the layers that a pane shows: classes with colour, pattern and letters; amounts with their ramp.

import { patternOf, stopsOf, tileOf } from "./colours.js";
import { el } from "./dom.js";
import { physical } from "./rasters.js";

/** Return a box as the class is drawn on the map. */
export function swatch(entry, index, patterned = true) {
  const canvas = el("canvas", { class: "swatch", width: 30, height: 18, "aria-hidden": "true" });
  const c = canvas.getContext("2d");
  c.fillStyle = c.createPattern(tileOf(entry.colour, patterned ? patternOf(entry, index) : ""), "repeat");
  c.fillRect(0, 0, 30, 18);
  return canvas;
}

function classes(legend, patterned) {
  return el("section", {},
    el("h3", {}, legend.title),
    el("ul", { class: "classes" }, legend.entries.map((entry, i) =>
      el("li", {}, swatch(entry, i, patterned), entry.letter ? el("b", {}, entry.letter) : null, entry.label))),
    legend.note ? el("p", { class: "hint" }, legend.note) : null);
}

function ramp(layer) {
  const canvas = el("canvas", { class: "ramp", width: 200, height: 10, "aria-hidden": "true" });
  const c = canvas.getContext("2d");
  const fill = c.createLinearGradient(0, 0, 200, 0);
  for (const [place, colour] of stopsOf(layer.kind === "grey" ? "grey" : layer.ramp)) fill.addColorStop(place, colour);
  c.fillStyle = fill;
  c.fillRect(0, 0, 200, 10);
  const [low, high] = (layer.stretch ?? layer.ranges)[0];
  return el("section", {},
    el("h3", {}, [layer.title, layer.run].filter(Boolean).join(", ")),
    canvas,
    el("p", { class: "ends" }, el("span", {}, physical(layer, low)), el("span", {}, physical(layer, high))));
}

function rgbNote(layer) {
  const [low, high] = (layer.stretch ?? layer.ranges)[0];
  return el("section", {}, el("h3", {}, layer.title),
    el("p", { class: "hint" }, `False colour: ${layer.greenIsMean ? "red and blue are bands of the file, green is their mean" : "red, green and blue are bands of the file"}; red from ${physical(layer, low)} to ${physical(layer, high)}.`));
}

/** Fill the legend for a pane, the uppermost layer first. */
export function showLegend(host, pane, options) {
  const layers = [...pane.chosen.keys()].sort((a, b) => b.order - a.order);
  const legends = new Map();
  for (const layer of layers) {
    if (!layer.legend) continue;
    const patterned = layer.vector && options.filled === "pattern";
    legends.set(layer.legend, (legends.get(layer.legend) ?? false) || patterned);
  }
  const parts = [...legends].map(([legend, patterned]) => classes(legend, patterned));
  for (const layer of layers) {
    if (layer.vector || layer.kind === "classes") continue;
    parts.push(layer.kind === "rgb" ? rgbNote(layer) : ramp(layer));
  }
  host.replaceChildren(el("h2", {}, "Legend"), ...(parts.length ? parts : [el("p", { class: "hint" }, "No layer is shown.")]));
}
