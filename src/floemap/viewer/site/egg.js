// The egg of a polygon, by the WMO's egg code (WMO No. 259): an oval with total concentration, then partial
// concentrations, stages of development and forms of up to three types, the thickest first. A trace of thicker ice, So,
// is outside on the left, and a type that has what the others leave, Sd, on the right. Codes are SIGRID-3's.

import { el, svg } from "./dom.js";

const NONE = new Set(["", "-9", "-", "9-", "null", "undefined"]);

const STAGES = {
  1: "ice free", 80: "no stage of development", 81: "new ice", 82: "nilas, ice rind", 83: "young ice", 84: "grey ice",
  85: "grey-white ice", 86: "first-year ice", 87: "thin first-year ice", 88: "thin first-year ice, first stage",
  89: "thin first-year ice, second stage", 91: "medium first-year ice", 93: "thick first-year ice", 94: "residual ice",
  95: "old ice", 96: "second-year ice", 97: "multi-year ice", 98: "glacier ice", 79: "brash ice",
  99: "undetermined stage",
};
const STAGE_SIGNS = { 79: "-", 91: "1•", 93: "4•", 94: "7•", 95: "7•", 96: "8•", 97: "9•", 98: "▲•", 99: "X" };
const FORMS = {
  0: "pancake ice", 1: "small ice cakes, brash ice", 2: "ice cakes", 3: "small floes", 4: "medium floes",
  5: "big floes", 6: "vast floes", 7: "giant floes", 8: "fast ice", 9: "growlers, floebergs", 10: "icebergs",
  20: "strips and patches, ten tenths", 21: "level ice", 22: "pancake ice", 99: "form undetermined",
};
for (let tenths = 1; tenths < 10; tenths++) FORMS[10 + tenths] = `strips and patches, ${tenths} ${tenths === 1 ? "tenth" : "tenths"}`;

/** Return a code as text, or "" where the chart does not give it. */
function codeOf(properties, field) {
  const value = properties[field];
  const code = value === null || value === undefined ? "" : String(value).trim();
  return NONE.has(code.toLowerCase()) ? "" : code.padStart(2, "0").slice(0, 8);
}

/** Return whether a polygon is of bergy water: icebergs, and less than a tenth of sea ice. */
export const isBergyWater = (properties) =>
  ["I", ""].includes(String(properties.POLY_TYPE ?? "").trim().toUpperCase()) && codeOf(properties, "CT") === "02";

/** Return a concentration as eggs write it: 7, 9+, 10, 4-6, X for unknown. */
export function concentration(code) {
  const special = { "00": "0", "01": "<1", "02": "<1", 55: "0", 91: "9+", 92: "10", 98: "X", 99: "X" };
  if (code in special) return special[code];
  if (!/^[1-9]\d$/.test(code)) return code;
  const [low, high] = code;
  return high === "0" ? low : `${low}-${high === "1" ? "10" : high}`;
}

const stageSign = (code) => STAGE_SIGNS[code] ?? (/^8\d$/.test(code) ? code[1] : code);
const formSign = (code) => ({ 99: "X", 22: "0", 10: "9" })[code] ?? (/^0\d$/.test(code) ? code[1] : code);

/** Return the codes of an egg: {ct, types: [{letter, share, stage, form}], trace, rest}, or null without any. */
export function readEgg(properties) {
  const ct = codeOf(properties, "CT");
  const types = ["A", "B", "C"]
    .map((x) => ({
      letter: x.toLowerCase(),
      share: codeOf(properties, `C${x}`),
      stage: codeOf(properties, `S${x}`),
      form: codeOf(properties, `F${x}`),
    }))
    .filter((type) => type.stage || type.share);
  return ct || types.length ? { ct, types, trace: codeOf(properties, "CN"), rest: codeOf(properties, "CD") } : null;
}

const TENTHS = { 0: "ice free", "<1": "less than one tenth", "9+": "more than nine tenths", X: "concentration unknown" };
const tenthsInWords = (sign) => TENTHS[sign] ?? `${sign} ${sign === "1" ? "tenth" : "tenths"}`;
const stageInWords = (code) => {
  const n = Number(code);
  return STAGES[n] ?? (n >= 2 && n < 79 ? `ice of thickness code ${code}` : `stage ${code}`);
};

/** Return the egg in sentences: the same as the drawing, for those who cannot see it or do not know the code. */
export function eggInWords({ ct, types, trace, rest }) {
  const total = ct === "02" ? "bergy water, less than one tenth" : ct ? tenthsInWords(concentration(ct)) : "not given";
  const parts = [`Total concentration: ${total}.`];
  for (const { share, stage, form } of types) {
    const amount = share ? `${tenthsInWords(concentration(share))}: ` : types.length === 1 ? "All of it: " : "";
    const words = [stage ? stageInWords(stage) : "stage not given"];
    if (form) words.push(FORMS[Number(form)] ?? `form ${form}`);
    const sentence = `${amount}${words.join(", ")}.`;
    parts.push(sentence[0].toUpperCase() + sentence.slice(1));
  }
  if (trace) parts.push(`A trace of thicker ice: ${stageInWords(trace)}.`);
  if (rest) parts.push(`The rest: ${stageInWords(rest)}.`);
  return parts.join(" ");
}

const WIDTH = 190;
const HEIGHT = 172;
const ROWS = [34, 70, 106, 142];

/** Return the drawing of an egg. */
export function drawEgg(egg) {
  const { ct, types, trace, rest } = egg;
  const middle = WIDTH / 2;
  const columns = { 1: [0], 2: [-24, 24], 3: [-33, 0, 33] }[types.length] ?? [];
  const sign = (text, x, y, role) =>
    svg("text", { x, y, "text-anchor": "middle", "dominant-baseline": "central", "data-code": role }, text);
  const line = (y, half) => svg("line", { x1: middle - half, x2: middle + half, y1: y, y2: y });
  const row = (field, signOf, y, role) =>
    types.map((type, i) => sign(signOf(type[field]), middle + columns[i], y, `${role}${type.letter}`));
  return svg(
    "svg",
    { class: "egg", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `Egg. ${eggInWords(egg)}` },
    svg("ellipse", { cx: middle, cy: HEIGHT / 2, rx: 66, ry: HEIGHT / 2 - 4 }),
    types.length ? [line(52, 59), line(88, 66), line(124, 59)] : null,
    sign(ct ? concentration(ct) : "–", middle, types.length ? ROWS[0] : HEIGHT / 2, "ct"),
    row("share", concentration, ROWS[1], "c"),
    row("stage", stageSign, ROWS[2], "s"),
    row("form", formSign, ROWS[3], "f"),
    trace ? sign(stageSign(trace), 14, ROWS[2], "so") : null,
    rest ? sign(stageSign(rest), WIDTH - 14, ROWS[2], "sd") : null,
  );
}

/** Return the egg as lines of text, for a label on the map. A single type has no partial concentration. */
export function eggLines({ ct, types, trace, rest }) {
  const row = (field, signOf) => types.map((type) => signOf(type[field]) || "–").join("  ");
  const stages = [trace && `(${stageSign(trace)})`, row("stage", stageSign), rest && `(${stageSign(rest)})`];
  return [
    concentration(ct),
    types.length > 1 ? row("share", concentration) : "",
    stages.filter(Boolean).join(" "),
    row("form", formSign),
  ].filter(Boolean);
}

/** Return the egg as a table of codes, beside the drawing. */
export function eggTable({ types }) {
  const cell = (code, words) => el("td", {}, code ? `${code} ` : "–", el("small", {}, words));
  return el(
    "table", { class: "codes" },
    el("caption", {}, "SIGRID-3 codes"),
    el("thead", {}, el("tr", {}, ["Type", "Share", "Stage", "Form"].map((t) => el("th", { scope: "col" }, t)))),
    el("tbody", {}, types.map((t) =>
      el("tr", {},
        el("th", { scope: "row" }, t.letter.toUpperCase()),
        cell(t.share, t.share ? tenthsInWords(concentration(t.share)) : ""),
        cell(t.stage, t.stage ? stageInWords(t.stage) : ""),
        cell(t.form, t.form ? (FORMS[Number(t.form)] ?? "") : "")))),
  );
}
