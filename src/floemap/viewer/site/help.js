// The help: keys, what the signs mean, sources and licences.

import { button, el } from "./dom.js";

const KEYS = [
  ["n, p", "next and previous place to review"],
  ["[, ]", "earlier and later scene"],
  ["1, 2, 3, 4", "that many maps side by side"],
  ["s", "two maps under a swipe"],
  ["f", "whole scene"],
  ["u", "north up, or as the projection has it"],
  ["o", "polygons filled, or as outlines"],
  ["g", "graticule on or off"],
  ["arrows, +, −", "move and zoom the map that has the focus"],
  ["Enter", "what is in the middle of that map"],
  ["Esc", "close a panel or this help"],
  ["?", "this help"],
];

export function makeHelp(file) {
  const close = () => dialog.close();
  const dialog = el("dialog", { id: "help", "aria-labelledby": "help-title" },
    el("h2", { id: "help-title" }, "Help"),
    el("p", {}, "Click or tap the map for the values of all layers that are shown, and for the eggs of polygons. The address of this page always leads to what it shows of this map."),
    el("table", {}, el("caption", { class: "unseen" }, "Keys"), el("tbody", {}, KEYS.map(([key, what]) => el("tr", {}, el("th", { scope: "row" }, el("kbd", {}, key)), el("td", {}, what))))),
    el("p", {}, "The egg: total concentration, then partial concentrations, stages of development and forms of up to three types, the thickest first; in tenths and in the codes of WMO No. 259. A trace of thicker ice is left of the oval, what remains right of it."),
    el("p", { class: "hint" }, `Made with floemap ${file.software}. Not for navigation. ${file.coast.source ? `Coastline: ${file.coast.source}. ` : ""}`,
      el("a", { href: "vendor/LICENCES.txt" }, "Licences of OpenLayers, geotiff.js and proj4js")),
    button("Close", "Close the help", close, { autofocus: true }));
  dialog.addEventListener("click", (event) => event.target === dialog && close());
  document.body.append(dialog);
  return dialog;
}
