// Colours of values: ramps for amounts, and patterns by which polygons are told apart without colour.

/** Colours from the lowest to the highest value, at equal steps. */
const RAMPS = {
  grey: ["#000000", "#ffffff"],
  viridis: ["#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725"],
  magma: ["#000004", "#1c1044", "#4f127b", "#812581", "#b5367a", "#e55064", "#fb8761", "#fec287", "#fcfdbf"],
  inferno: ["#000004", "#1f0c48", "#550f6d", "#88226a", "#ba3655", "#e35933", "#f98e09", "#f9c932", "#fcffa4"],
  cividis: ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8779", "#a69d75", "#c4b56c", "#fee838"],
  heat: ["#ffffcc", "#fed976", "#fd8d3c", "#e31a1c", "#800026"],
  blues: ["#f7fbff", "#c6dbef", "#6baed6", "#2171b5", "#08306b"],
};

/** Return [place from 0 to 1, colour] of the stops of a ramp, from its name or the file's own; an unknown name gives viridis. */
export function stopsOf(ramp) {
  if (Array.isArray(ramp)) return ramp;
  const colours = Object.hasOwn(RAMPS, ramp) ? RAMPS[ramp] : RAMPS.viridis;
  return colours.map((colour, i) => [i / (colours.length - 1), colour]);
}

/** Return red, green and blue, 0 to 255, of "#rrggbb". */
export const rgb = (colour) => [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));

/** Patterns in the order in which classes without one get them. Water and land stay plain. */
const PATTERNS = ["o", "/", ".", "\\", "-", "x", "|", "+"];
const PLAIN = new Set(["open_water", "land", "right"]);

/** Return the pattern of an entry of a legend: the file's, or one by its place; "" is plain. */
export function patternOf(entry, index) {
  if (PATTERNS.includes(entry.pattern)) return entry.pattern;
  return PLAIN.has(entry.name) ? "" : PATTERNS[index % PATTERNS.length];
}

const tiles = new Map();

/** Return a canvas, 12 x 12 pixels, to be repeated: a colour with a pattern over it. */
export function tileOf(colour, pattern, alpha = 1) {
  const key = `${colour} ${pattern} ${alpha}`;
  if (!tiles.has(key)) tiles.set(key, paint(colour, pattern, alpha));
  return tiles.get(key);
}

const SIDE = 12;

function paint(colour, pattern, alpha) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE;
  const c = canvas.getContext("2d");
  c.fillStyle = `rgba(${rgb(colour).join(",")},${alpha})`;
  c.fillRect(0, 0, SIDE, SIDE);
  c.strokeStyle = c.fillStyle = "rgba(20,30,45,.55)";
  c.beginPath();
  for (const [x0, y0, x1, y1] of STROKES[pattern] ?? []) {
    c.moveTo(x0, y0);
    c.lineTo(x1, y1);
  }
  c.stroke();
  if (pattern === "." || pattern === "o") {
    c.beginPath();
    c.arc(SIDE / 2, SIDE / 2, pattern === "." ? 1.1 : 2.5, 0, 2 * Math.PI);
    if (pattern === ".") c.fill();
    else c.stroke();
  }
  return canvas;
}

// Strokes run over the edges, so that repeated tiles join.
const STROKES = {
  "/": [[-1, 13, 13, -1], [-1, 1, 1, -1], [11, 13, 13, 11]],
  "\\": [[-1, -1, 13, 13], [11, -1, 13, 1], [-1, 11, 1, 13]],
  "-": [[0, 6, 12, 6]],
  "|": [[6, 0, 6, 12]],
  x: [[-1, 13, 13, -1], [-1, -1, 13, 13]],
  "+": [[0, 6, 12, 6], [6, 0, 6, 12]],
};
