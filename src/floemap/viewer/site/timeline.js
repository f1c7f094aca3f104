// The scenes by time: a strip with a mark for each, a range of dates, and keys. Scenes without a time are at its end.

import { button, el, svg } from "./dom.js";

const DAY = 86400000;
/** About the width of a date below the strip. */
const NAME_PX = 66;
const day = (time) => new Date(time).toISOString().slice(0, 10);
export const minute = (time) => (time === null ? "time not known" : `${new Date(time).toISOString().slice(0, 16).replace("T", " ")} UTC`);

/** Return round times between two, some `most` of them, with their names. */
function ticks(from, to, most) {
  const span = to - from;
  const steps = [DAY / 24, DAY / 8, DAY / 4, DAY / 2, DAY, 2 * DAY, 5 * DAY, 10 * DAY, 30 * DAY, 90 * DAY, 365 * DAY, 1826 * DAY];
  const step = steps.find((s) => span / s <= most) ?? steps.at(-1);
  const found = [];
  for (let t = Math.ceil(from / step) * step; t <= to; t += step) {
    const iso = new Date(t).toISOString();
    found.push([t, step < DAY ? iso.slice(5, 16).replace("T", " ") : iso.slice(0, 10)]);
  }
  return found;
}

export class Timeline {
  /** `show` is called with a scene that was chosen, `ranged` when the range of dates has changed. */
  constructor(host, scenes, show, ranged) {
    Object.assign(this, { host, scenes, show, ranged });
    this.inRange = scenes;
    this.shown = null;
    if (scenes.length < 2) return;
    this.strip = el("div", { class: "strip", role: "slider", tabindex: 0, "aria-label": "Scene, by time" });
    this.strip.addEventListener("keydown", (event) => this.key(event));
    this.strip.addEventListener("pointerdown", (event) => this.press(event));
    const dated = scenes.filter((s) => s.time !== null);
    this.dates = dated.length > 1 ? ["From", "To"].map((name, end) => {
      const input = el("input", { type: "date", "aria-label": `${name} this date`, min: day(dated[0].time), max: day(dated.at(-1).time), onchange: () => this.limit() });
      input.value = day(end ? dated.at(-1).time : dated[0].time);
      return input;
    }) : [];
    this.count = el("span", { class: "count" });
    host.append(
      button("‹", "Earlier scene ([)", () => this.step(-1)), this.strip, button("›", "Later scene (])", () => this.step(1)),
      el("span", { class: "dates" }, ...this.dates), this.count);
    new ResizeObserver(() => this.draw()).observe(this.strip);
  }

  limit() {
    const [from, to] = this.dates.map((input) => Date.parse(input.value));
    this.inRange = this.scenes.filter((s) =>
      s.time === null || ((Number.isNaN(from) || s.time >= from) && (Number.isNaN(to) || s.time < to + DAY)));
    if (!this.inRange.length) this.inRange = this.scenes;
    this.ranged();
    if (this.inRange.includes(this.shown)) this.mark(this.shown); // draws, too
    else this.show(this.inRange[0]);
  }

  /** Mark a scene as the shown one. */
  mark(scene) {
    this.shown = scene;
    if (!this.strip) return;
    const at = this.inRange.indexOf(scene);
    const attributes = { "aria-valuemin": 1, "aria-valuemax": this.inRange.length, "aria-valuenow": at + 1, "aria-valuetext": scene.short === scene.name ? `${minute(scene.time)}, ${scene.name}` : scene.short };
    for (const [name, value] of Object.entries(attributes)) this.strip.setAttribute(name, value);
    this.count.textContent = `${at + 1} of ${this.inRange.length}`;
    this.draw();
  }

  /** Return where a scene is on the strip, 0 to 1. */
  position(scene) {
    const times = this.inRange.map((s) => s.time).filter((t) => t !== null);
    const [first, last] = [times[0], times.at(-1)];
    if (times.length < 2 || first === last) return (this.inRange.indexOf(scene) + 0.5) / this.inRange.length;
    return scene.time === null ? 1 : 0.02 + (0.96 * (scene.time - first)) / (last - first);
  }

  draw() {
    const width = this.strip?.clientWidth ?? 0;
    if (!width) return;
    const times = this.inRange.map((s) => s.time).filter((t) => t !== null);
    const place = (share) => (share * width).toFixed(1);
    const along = (t) => 0.02 + (0.96 * (t - times[0])) / (times.at(-1) - times[0]);
    const anchor = (x) => (x < NAME_PX / 2 ? "start" : x > width - NAME_PX / 2 ? "end" : "middle");
    const marks = this.inRange.map((s) => {
      const x = place(this.position(s));
      return svg("line", { x1: x, x2: x, y1: 3, y2: 17, class: s === this.shown ? "shown" : "" });
    });
    const names = times.length > 1 && times[0] < times.at(-1)
      ? ticks(times[0], times.at(-1), Math.max(2, width / 110)).map(([t, name]) => svg("text", { x: place(along(t)), y: 30, "text-anchor": anchor(along(t) * width) }, name))
      : [];
    this.strip.replaceChildren(svg("svg", { width, height: 34, "aria-hidden": "true" }, svg("line", { x1: 0, x2: width, y1: 10, y2: 10, class: "axis" }), marks, names));
    // The shown mark is drawn last, over its neighbours.
    const shown = this.strip.querySelector(".shown");
    shown?.parentNode.append(shown);
  }

  step(by) {
    const at = this.inRange.indexOf(this.shown) + by;
    if (this.inRange[at]) this.show(this.inRange[at]);
  }

  key(event) {
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowDown: -1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -Infinity, End: Infinity };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const last = this.inRange.length - 1;
    const to = Math.min(last, Math.max(0, this.inRange.indexOf(this.shown) + steps[event.key]));
    if (this.inRange[to] !== this.shown) this.show(this.inRange[to]);
  }

  press(event) {
    const { left, width } = this.strip.getBoundingClientRect();
    const at = (event.clientX - left) / width;
    const distance = (s) => Math.abs(this.position(s) - at);
    this.show(this.inRange.reduce((best, s) => (distance(s) < distance(best) ? s : best)));
  }
}
