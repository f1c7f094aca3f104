// What is at a place: its position, the values of all rasters that are shown, and the polygons with their eggs.

import { el, say } from "./dom.js";
import { drawEgg, eggInWords, eggTable, readEgg } from "./egg.js";
import { swatch } from "./legend.js";
import { inWords } from "./projections.js";
import { valueAt } from "./rasters.js";
import { entryOf } from "./vectors.js";

const percent = (share) => `${Math.round(100 * share)} %`;
const given = (value) => value !== null && value !== undefined && value !== "";

/** Return pairs of a term and its value about a polygon, those that the file has. */
function factsOf(own, legend) {
  const title = (key) => legend?.entries.find((e) => e.name === key)?.label ?? key;
  const facts = [];
  const add = (term, value) => given(value) && facts.push([term, String(value)]);
  if (typeof own.CONFIDENCE === "number") add("Confidence", percent(own.CONFIDENCE));
  if (given(own.SECOND)) {
    add("Alternative", title(own.SECOND) + (typeof own.SECOND_P === "number" ? `, ${percent(own.SECOND_P)}` : ""));
  }
  if (typeof own.CONC === "number") add("Concentration", `${percent(own.CONC)}${own.ESTIMATED === "yes" ? ", estimated" : ""}`);
  if (typeof own.AREA_KM2 === "number") add("Area", `${own.AREA_KM2.toLocaleString("en", { maximumFractionDigits: 1 })} km²`);
  add("Order of review", own.REVIEW);
  if (typeof own.OOD === "number") add("Out of distribution", own.OOD.toFixed(2));
  add("Source", own.SOURCE);
  add("Status", own.STATUS);
  return facts;
}

const terms = (pairs) => el("dl", {}, pairs.flatMap(([term, value]) => [el("dt", {}, term), el("dd", {}, value)]));

function polygon(feature, layer) {
  const own = feature.get("own");
  const [entry, index] = entryOf(feature, layer.legend);
  const land = own.POLY_TYPE === "L" || own.CLASS === "land";
  const title = entry?.label ?? (land ? "Land" : given(own.CLASS) ? String(own.CLASS) : "Polygon");
  const egg = land ? null : readEgg(own);
  const parts = [
    el("h3", {}, entry ? swatch(entry, index) : null, title),
    el("p", { class: "hint" }, [layer.title, layer.run].filter(Boolean).join(", ")),
  ];
  if (egg) {
    parts.push(drawEgg(egg), el("p", { class: "egg-words" }, eggInWords(egg)));
  }
  parts.push(terms(factsOf(own, layer.legend)));
  if (egg?.types.length) parts.push(el("details", {}, el("summary", {}, "Codes"), eggTable(egg)));
  return el("article", { class: "polygon" }, parts);
}

/** Return what the properties of a feature that is not a polygon of a chart say. */
function other(feature, layer) {
  const pairs = Object.entries(feature.get("own")).filter(([, v]) => given(v) && typeof v !== "object").slice(0, 24);
  return el("article", { class: "polygon" }, el("h3", {}, layer.title), terms(pairs.map(([k, v]) => [k, String(v)])));
}

async function valueRow(layer, lonLat) {
  let found;
  try {
    found = await valueAt(layer, lonLat);
  } catch (error) {
    found = { words: `cannot be read: ${error.message ?? error}` };
  }
  const index = found.entry ? layer.legend.entries.indexOf(found.entry) : -1;
  return el("tr", {},
    el("th", { scope: "row" }, layer.title, layer.run ? el("small", {}, layer.run) : null),
    el("td", {}, found.entry ? swatch(found.entry, index, false) : null, found.words));
}

/** Say in the panel how a place is asked for; answers on an earlier place, which may come later, are then not shown. */
export function clearPlace(host) {
  host.asked = null;
  host.replaceChildren(el("h2", {}, "At this place"), el("p", { class: "hint" }, "Click the map, or press Enter on it."));
}

/**
 * Fill the panel with what is at a place.
 *
 * `lonLat` is the place, `xy` the same on the map's projection `code`; `features` is a promise of [feature, layer] pairs,
 * `panes` all panes, `lead` what screen readers hear first. Rasters and polygons may answer later than the rest: they are
 * filled in when they are there.
 */
export async function showPlace(host, { lonLat, xy, code, features, panes, lead }) {
  const note = el("p", { class: "hint" }, `x ${Math.round(xy[0])} m, y ${Math.round(xy[1])} m in ${code.startsWith("EPSG:") ? code : "the scene's own projection"}`);
  const body = el("tbody", {});
  const parts = [el("h2", {}, "At this place"), el("p", { class: "position" }, inWords(lonLat)), note];
  const rasters = panes.flatMap((pane) =>
    [...pane.chosen.keys()].filter((l) => !l.vector).sort((a, b) => b.order - a.order).map((layer) => [pane, layer]));
  if (rasters.length) parts.push(el("table", { class: "values" }, el("caption", { class: "unseen" }, "Values of the rasters shown"), body));
  const vectors = el("div", {});
  host.replaceChildren(...parts, vectors);
  host.setAttribute("aria-busy", "true");
  const asked = {};
  host.asked = asked;
  const polygons = features.then((found) => {
    vectors.append(...found.map(([f, l]) => (l.kind === "polygons" ? polygon(f, l) : other(f, l))));
    if (!found.length && !rasters.length) vectors.append(el("p", { class: "hint" }, "No layer is shown here."));
    return found.map(([f, l]) => entryOf(f, l.legend)[0]?.label).filter(Boolean);
  });
  const seen = new Set();
  const answers = rasters.filter(([, layer]) => !seen.has(layer) && seen.add(layer)).map(([, layer]) => valueRow(layer, lonLat));
  const [told, ...rows] = await Promise.all([polygons, ...answers]);
  if (host.asked !== asked) return;
  body.append(...rows);
  host.setAttribute("aria-busy", "false");
  const values = rows.map((r) => `${r.cells[0].textContent} ${r.cells[1].textContent}`);
  say([lead, inWords(lonLat), ...told, ...values].filter(Boolean).join("; "));
}

