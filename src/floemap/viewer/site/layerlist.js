// The list of layers of the pane in hand: by group, the uppermost first, with opacity, stretch and fill.

import { el } from "./dom.js";
import { LETTERS } from "./panes.js";
import { limitsOf, physical } from "./rasters.js";

const GROUPS = {
  radar: "Radar", chart: "Chart", probability: "Probabilities", uncertainty: "Uncertainty", labels: "Labels",
  truth: "Truth of the simulation", risk: "Risk", layer: "Other layers",
};

/** Return the layers by group, the uppermost layer and group first. */
function grouped(layers) {
  const groups = new Map();
  for (const layer of [...layers].reverse()) {
    const title = GROUPS[layer.group] ?? GROUPS.layer;
    groups.set(title, [...(groups.get(title) ?? []), layer]);
  }
  return groups;
}

function slider(label, value, [low, high, step], words, oninput) {
  const output = el("output", {}, words(value));
  const input = el("input", {
    type: "range", min: low, max: high, step, "aria-valuetext": words(value),
    oninput: () => {
      output.textContent = words(Number(input.value));
      input.setAttribute("aria-valuetext", output.textContent);
      oninput(Number(input.value));
    },
  });
  input.value = value;
  return el("label", { class: "slider" }, el("span", {}, label), input, output);
}

function stretchSliders(layer, app) {
  const [low, high] = limitsOf(layer);
  layer.stretch ??= layer.ranges.map((pair) => [...pair]);
  const names = layer.kind === "rgb" ? ["Dark", "Bright"] : ["From", "To"];
  return names.map((name, end) =>
    slider(name, layer.stretch[0][end], [low, high, (high - low) / 200], (v) => physical(layer, v), (v) => {
      // The bands of a colour picture are stretched together, each by its own range.
      const [from, to] = layer.ranges[0];
      layer.ranges.forEach(([a, b], i) => { layer.stretch[i][end] = a + ((v - from) / (to - from)) * (b - a); });
      app.restretch(layer);
    }));
}

function choice(label, option, texts, app) {
  const select = el("select", { onchange: () => app.refill({ [option]: select.value }) },
    Object.entries(texts).map(([value, text]) => el("option", { value }, text)));
  select.value = app.options[option];
  return el("label", { class: "choice" }, el("span", {}, label), select);
}

const fillChoices = (app) => [
  choice("Fill", "filled", { pattern: "colour and pattern", colour: "colour", outline: "outline only" }, app),
  choice("Labels", "labels", { letters: "letters", eggs: "eggs", none: "none" }, app),
];

function row(layer, pane, app, index) {
  const opacity = pane.chosen.get(layer) ?? null;
  const state = pane.states.get(layer) ?? "";
  const box = el("input", {
    type: "checkbox", id: `layer-${index}`, checked: opacity !== null,
    onchange: () => app.choose(layer, box.checked ? 1 : null),
  });
  const name = el("label", { for: `layer-${index}` }, layer.title,
    layer.run && !pane.run && app.runs.length > 1 ? el("small", {}, layer.run) : null,
    layer.vector ? el("small", {}, layer.kind) : null);
  const parts = [el("div", { class: "name" }, box, name)];
  if (opacity !== null) {
    const controls = [slider("Opacity", Math.round(100 * opacity), [0, 100, 5], (v) => `${v} %`, (v) => app.choose(layer, v / 100, false))];
    if (!layer.vector && layer.kind !== "classes") controls.push(...stretchSliders(layer, app));
    if (layer.vector && layer.kind === "polygons") controls.push(...fillChoices(app));
    parts.push(el("div", { class: "controls" }, controls));
    if (state === "reading") parts.push(el("p", { class: "state" }, "reading …"));
    else if (state !== "drawn" && state) parts.push(el("p", { class: "state bad" }, state[0].toUpperCase() + state.slice(1)));
  }
  return el("li", { class: opacity === null ? "" : "on" }, parts);
}

/** Fill the list. Focus and open groups stay as they are, since every change makes the list anew. */
export function showLayers(host, app) {
  const pane = app.panes.current;
  const scene = app.scene;
  const open = new Map([...host.querySelectorAll("details")].map((d) => [d.dataset.group, d.open]));
  const focus = host.contains(document.activeElement) ? document.activeElement.id : "";
  const parts = [];
  if (app.panes.all.length > 1) parts.push(paneTabs(app));
  if (app.runs.length > 1) parts.push(runChoice(pane, app));
  let index = 0;
  for (const [title, layers] of grouped(scene.layers)) {
    const seen = layers.filter((l) => !pane.run || l.run === null || l.run === pane.run);
    if (!seen.length) continue;
    const on = seen.filter((l) => pane.chosen.has(l)).length;
    parts.push(el("details", { "data-group": title, open: open.get(title) ?? (on > 0 || ["Radar", "Chart"].includes(title)) },
      el("summary", {}, title, el("small", {}, on ? `${on} of ${seen.length}` : `${seen.length}`)),
      el("ul", {}, seen.map((layer) => row(layer, pane, app, index++)))));
  }
  if (!scene.layers.length) parts.push(el("p", { class: "hint" }, "This scene has no layers."));
  host.replaceChildren(...parts);
  if (focus) document.getElementById(focus)?.focus();
}

function paneTabs(app) {
  return el("div", { class: "tabs", role: "group", "aria-label": "Map whose layers are listed" },
    app.panes.all.map((pane) => el("button", {
      type: "button", id: `tab-${pane.index}`, "aria-pressed": String(pane.index === app.panes.active),
      onclick: () => app.panes.activate(pane.index),
    }, `Map ${LETTERS[pane.index]}`)));
}

function runChoice(pane, app) {
  const select = el("select", { id: "run", onchange: () => app.showRun(pane, select.value || null) },
    el("option", { value: "" }, "all"), app.runs.map((run) => el("option", { value: run }, run)));
  select.value = pane.run ?? "";
  return el("label", { class: "run", for: "run" }, "Model or loss ", select);
}
