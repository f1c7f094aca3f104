// Places to review, the one with the most expected error first: a list through which "n" and "p" lead.

import { button, el, say } from "./dom.js";
import { inWords } from "./projections.js";

export class Review {
  /** `show` is called with a place when it is chosen, and with its words. */
  constructor(host, show) {
    this.host = host;
    this.show = show;
    this.places = [];
    this.at = -1;
  }

  /** Take the places of another scene. */
  take(places) {
    this.places = [...places].sort((a, b) => a.rank - b.rank);
    this.at = -1;
    this.rows = this.places.map((place, i) => el("li", {}, el("button", {
      type: "button", onclick: () => this.go(i),
    }, el("b", {}, String(place.rank)), el("span", {}, place.title || inWords([place.lon, place.lat]),
      place.why ? el("small", {}, place.why) : null))));
    this.count = el("span", { class: "count" });
    const keys = [button("‹ Previous", "Previous place to review (p)", () => this.step(-1)), this.count,
      button("Next ›", "Next place to review (n)", () => this.step(1))];
    this.host.replaceChildren(
      el("h2", {}, "To review"),
      ...(this.places.length
        ? [el("div", { class: "step" }, keys), el("ol", { class: "places" }, this.rows)]
        : [el("p", { class: "hint" }, "This scene has no places to review.")]));
    this.mark();
  }

  mark() {
    this.count.textContent = this.at < 0 ? `${this.places.length} places` : `${this.at + 1} of ${this.places.length}`;
    this.rows.forEach((row, i) => {
      if (i === this.at) row.firstChild.setAttribute("aria-current", "true");
      else row.firstChild.removeAttribute("aria-current");
    });
    this.rows[this.at]?.scrollIntoView({ block: "nearest" });
  }

  /** Go a number of places on; after the last comes the first. */
  step(by) {
    const count = this.places.length;
    if (!count) return say("This scene has no places to review.");
    return this.go(this.at < 0 ? (by > 0 ? 0 : count - 1) : (this.at + by + count) % count);
  }

  go(index) {
    this.at = index;
    this.mark();
    const place = this.places[index];
    const words = `Place ${index + 1} of ${this.places.length}: ${place.title}. ${place.why}`;
    say(words);
    this.show(place, words);
  }
}
