// Panes: one to four maps of the same view, side by side or one over the other under a swipe. Each draws its own choice
// of layers; view, coastline, graticule and marks are shared, so that a place is at the same spot in all of them.

import { coastLayers, graticuleLayer } from "./background.js";
import { button, el, tell } from "./dom.js";
import { whyRefused } from "./mapfile.js";
import { hasWebGL, rasterLayer, stretchVariables } from "./rasters.js";
import { vectorLayer } from "./vectors.js";

const { control, interaction, layer: layers, Map: OlMap, source: sources, style: styles, View } = globalThis.ol;

export const LETTERS = ["A", "B", "C", "D"];

const markStyle = [
  new styles.Style({ stroke: new styles.Stroke({ color: "#fff", width: 5 }) }),
  new styles.Style({
    stroke: new styles.Stroke({ color: "#d6008f", width: 2.2 }),
    image: new styles.RegularShape({ points: 4, radius: 9, radius2: 0, stroke: new styles.Stroke({ color: "#d6008f", width: 2 }) }),
  }),
];

/** Sources that all panes draw. */
const shared = {
  coast: coastLayers(),
  graticule: graticuleLayer(),
  footprints: new sources.Vector(),
  marks: new sources.Vector(),
};
export const { footprints, marks } = shared;
export const coastSource = shared.coast.source;
export const graticuleSource = shared.graticule.getSource();

/** One map with its choice of layers. */
class Pane {
  constructor(index, listeners) {
    this.index = index;
    this.chosen = new Map(); // layer -> opacity, 0 to 1
    this.drawn = new Map(); // layer -> its map layer
    this.states = new Map(); // layer -> "reading", "drawn" or a sentence on what failed
    this.listeners = listeners;
    this.projection = null;
    this.tries = new Map(); // layer -> its latest try to draw it
    this.reads = new Map(); // layer -> promise of the end of its reading, of polygons, lines and places
    this.settled = false; // all that is chosen is read and drawn
    this.firstFrame = null; // index of the first frame since something last changed
    this.options = listeners.options;
    this.title = el("button", { type: "button", class: "pane-title", onclick: () => listeners.activate(index) });
    this.target = el("div", { class: "map", tabindex: 0, role: "application", "aria-label": `Map ${LETTERS[index]}` });
    this.element = el("section", { class: "pane", "aria-label": `Map ${LETTERS[index]}` }, this.target, this.title);
    this.map = new OlMap({
      target: this.target,
      controls: [new control.ScaleLine({ minWidth: 70 }), new control.ScaleLine({ units: "nautical", minWidth: 70, className: "nautical" })],
      // The page does not scroll, so the wheel and a finger need not wait until the map has the focus.
      interactions: interaction.defaults.defaults({ onFocusOnly: false }),
      layers: this.background(),
    });
    this.map.on("click", (event) => listeners.pick(event.coordinate));
    this.map.on("pointermove", (event) => !event.dragging && listeners.hover(event.coordinate));
    this.map.on("precompose", ({ frameState }) => { this.firstFrame ??= frameState.index; });
    this.map.on("rendercomplete", ({ frameState }) => {
      // A frame that began before a change says nothing about it, and may be complete after it.
      this.settled = this.firstFrame !== null && frameState.index >= this.firstFrame;
      listeners.rendered();
    });
    this.target.addEventListener("focus", () => listeners.activate(index));
    this.target.addEventListener("pointerdown", () => listeners.activate(index));
    this.target.addEventListener("keydown", (event) => {
      if (event.key === "Enter") listeners.pick(this.map.getView().getCenter());
    });
  }

  background() {
    const { land, line, source } = shared.coast;
    const copy = (layer, zIndex) => new layers.Vector({ source, style: layer.getStyle(), zIndex });
    this.grid = new layers.Vector({
      source: graticuleSource, style: shared.graticule.getStyle(), zIndex: 700, declutter: "graticule",
    });
    return [
      copy(land, 1),
      copy(line, 500),
      this.grid,
      new layers.Vector({ source: footprints, zIndex: 400 }),
      new layers.Vector({ source: marks, style: markStyle, zIndex: 900 }),
    ];
  }

  /** Note that what is drawn is not what is chosen, until a frame that begins from now on is complete. */
  unsettle() {
    this.settled = false;
    this.firstFrame = null;
    this.listeners.unsettled();
  }

  /** Draw a layer, or take it away with an opacity of null. */
  choose(layer, opacity) {
    if (opacity === null) {
      this.chosen.delete(layer);
      this.states.delete(layer);
      this.tries.delete(layer);
      this.take(layer);
    } else {
      this.chosen.set(layer, opacity);
      if (this.drawn.has(layer)) this.drawn.get(layer).setOpacity(opacity);
      else this.begin(layer);
    }
  }

  begin(layer) {
    const read = this.draw(layer);
    if (!layer.vector) return;
    this.reads.set(layer, read);
    read.finally(() => this.reads.get(layer) === read && this.reads.delete(layer));
  }

  /** Wait until the polygons, lines and places that are chosen are read, or cannot be. */
  vectorsRead() {
    return Promise.all(this.reads.values());
  }

  async draw(layer) {
    if (!layer.vector && !hasWebGL) {
      this.states.set(layer, "cannot be drawn: this browser offers no WebGL.");
      return;
    }
    this.states.set(layer, "reading");
    this.unsettle();
    const attempt = {}; // another one follows when the layer is chosen again, or put on another projection
    this.tries.set(layer, attempt);
    const latest = () => this.tries.get(layer) === attempt;
    try {
      const made = layer.vector
        ? await vectorLayer(layer, this.projection, this.options)
        : await rasterLayer(layer, layer.stretch ?? layer.ranges);
      if (!latest()) return;
      made.setZIndex((layer.vector ? 600 : 10) + layer.order);
      made.setOpacity(this.chosen.get(layer));
      made.getSource().on("tileloaderror", () => this.failed(layer, "some of its tiles cannot be read", latest));
      this.drawn.set(layer, made);
      this.map.addLayer(made);
      this.unsettle();
      this.states.set(layer, "drawn");
    } catch (error) {
      await this.failed(layer, reason(error), latest);
    }
    this.listeners.changed();
  }

  /** Say that a layer cannot be read, or that nothing can, unless the try to draw it is no longer the latest. */
  async failed(layer, why, latest) {
    const refused = await whyRefused(layer.url);
    if (!latest()) return;
    const words = `cannot be read: ${refused && !refused.stale ? refused.message : why}.`;
    this.states.set(layer, words);
    tell(refused?.stale ? refused : `“${layer.title}”${layer.run ? ` of ${layer.run}` : ""} ${words}`);
    this.listeners.changed();
  }

  take(layer) {
    const made = this.drawn.get(layer);
    if (!made) return;
    this.map.removeLayer(made);
    this.unsettle();
    this.drawn.delete(layer);
    if (!layer.vector) made.dispose();
  }

  clear() {
    for (const layer of [...this.chosen.keys()]) this.choose(layer, null);
  }

  /** Draw what depends on the projection again. Rasters are put on it by OpenLayers. */
  reproject(code) {
    this.projection = code;
    for (const layer of [...this.chosen.keys()]) {
      if (layer.vector) this.take(layer);
      if (!this.drawn.has(layer)) this.begin(layer);
    }
  }

  restretch(layer) {
    this.drawn.get(layer)?.updateStyleVariables(stretchVariables(layer, layer.stretch));
  }

  restyle() {
    for (const [layer, made] of this.drawn) if (layer.vector) made.changed();
  }

  /** Return the polygons that hold a place, and the lines and places near it, with their layers, the uppermost first. */
  featuresAt(at) {
    const reach = 6 * this.map.getView().getResolution();
    const near = (feature) => Math.hypot(...feature.getGeometry().getClosestPoint(at).map((v, i) => v - at[i])) <= reach;
    const box = [at[0] - reach, at[1] - reach, at[0] + reach, at[1] + reach];
    return [...this.drawn].filter(([layer]) => layer.vector).sort(([a], [b]) => b.order - a.order).flatMap(([layer, made]) => {
      const source = made.getSource();
      const found = layer.kind === "polygons" ? source.getFeaturesAtCoordinate(at) : source.getFeaturesInExtent(box).filter(near);
      return found.map((feature) => [feature, layer]);
    });
  }
}

function reason(error) {
  if (error instanceof TypeError) return "its content has not the form that this page reads";
  const words = String(error?.message ?? error);
  if (/Unknown compression|WebAssembly|zstd|lerc/i.test(words)) return "its compression is not one that browsers read";
  if (/full file/i.test(words)) return "the web server does not answer requests for ranges of bytes";
  return words.replace(/\.$/, "");
}

/** All panes, and how they are laid out: "one", "swipe" or "side". */
export class Panes {
  constructor(host, listeners) {
    this.host = host;
    this.layout = "one";
    this.active = 0;
    this.split = 50;
    this.listeners = { ...listeners, activate: (i) => this.activate(i) };
    this.all = [];
    this.handle = this.makeHandle();
    this.view = null;
    this.arrange("one", 1);
  }

  get current() {
    return this.all[this.active];
  }

  activate(index) {
    if (index === this.active || !this.all[index]) return;
    this.active = index;
    this.mark();
    this.listeners.changed();
  }

  mark() {
    this.all.forEach((pane) => pane.element.classList.toggle("active", this.all.length > 1 && pane.index === this.active));
  }

  /** Set how many panes there are. Returns the new ones. */
  arrange(layout, count) {
    this.layout = layout;
    const added = [];
    while (this.all.length < count) {
      const pane = new Pane(this.all.length, this.listeners);
      this.all.push(pane);
      added.push(pane);
      this.host.append(pane.element);
      if (this.view) {
        pane.projection = this.view.getProjection().getCode();
        pane.map.setView(this.view);
      }
    }
    for (const pane of this.all.splice(count)) {
      pane.clear();
      pane.map.setTarget(null);
      pane.map.dispose();
      pane.element.remove();
    }
    this.active = Math.min(this.active, count - 1);
    this.host.dataset.layout = layout;
    this.host.dataset.count = count;
    if (layout === "swipe") this.host.append(this.handle);
    else this.handle.remove();
    this.swipe(this.split);
    this.mark();
    for (const pane of this.all) pane.map.updateSize();
    return added;
  }

  /** Return the boxes of scale bars and titles over the maps, [left, lower, right, upper] in pixels from a map's corner. */
  taken() {
    return this.all.flatMap(({ element, target }) => {
      const home = target.getBoundingClientRect();
      const boxes = [...element.querySelectorAll(".ol-scale-line, .nautical, .pane-title")].map((e) => e.getBoundingClientRect());
      return boxes.filter((b) => b.width).map((b) => [b.left - home.left, home.bottom - b.bottom, b.right - home.left, home.bottom - b.top]);
    });
  }

  /** Show one view in all panes. */
  setView(code, centre, resolution, rotation = 0) {
    this.view = new View({
      projection: code,
      center: centre,
      resolution,
      rotation,
      minResolution: 0.5,
      maxResolution: 40000,
      constrainRotation: false,
    });
    for (const pane of this.all) {
      pane.unsettle();
      pane.reproject(code);
      pane.map.setView(this.view);
    }
    this.view.on("change", () => {
      for (const pane of this.all) pane.unsettle();
      this.listeners.moved();
    });
  }

  /** Put the edge of the upper map at a percentage of the width. */
  swipe(percent) {
    this.split = Math.min(100, Math.max(0, percent));
    const upper = this.all[1]?.element;
    if (upper) upper.style.clipPath = this.layout === "swipe" ? `inset(0 0 0 ${this.split}%)` : "";
    this.handle.style.left = `${this.split}%`;
    this.handle.setAttribute("aria-valuenow", Math.round(this.split));
    this.handle.setAttribute("aria-valuetext", `${Math.round(this.split)} percent of map A`);
  }

  makeHandle() {
    const handle = button("⇔", "Move the edge between map A and map B", null, {
      class: "swipe", role: "slider", "aria-valuemin": 0, "aria-valuemax": 100, "aria-orientation": "horizontal",
    });
    const steps = { ArrowLeft: -2, ArrowRight: 2, PageDown: -10, PageUp: 10, Home: -100, End: 100 };
    handle.addEventListener("keydown", (event) => {
      if (!(event.key in steps)) return;
      event.preventDefault();
      this.swipe(this.split + steps[event.key]);
      this.listeners.changed();
    });
    handle.addEventListener("pointerdown", (event) => {
      handle.setPointerCapture(event.pointerId);
      const drag = (move) => {
        const { left, width } = this.host.getBoundingClientRect();
        this.swipe((100 * (move.clientX - left)) / width);
      };
      const stop = () => {
        handle.removeEventListener("pointermove", drag);
        this.listeners.changed();
      };
      handle.addEventListener("pointermove", drag);
      handle.addEventListener("pointerup", stop, { once: true });
      handle.addEventListener("pointercancel", stop, { once: true });
    });
    return handle;
  }
}
