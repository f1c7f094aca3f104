// Cloud-optimised GeoTIFFs: read in ranges by geotiff.js, decoded in workers, drawn by WebGL.
//
// Tiles hold 8 bits a band: a quarter of the memory of reals, and no float textures, which phones lack. So the values
// of amounts are spread over a range somewhat wider than the one drawn, which leaves room for stretching. A click reads
// the true value, from the full resolution, by a source of its own.

import { rgb, stopsOf } from "./colours.js";

const { layer: layers, source: sources, proj } = globalThis.ol;

/** Tiles of 512 x 512 that a layer keeps: two zoom levels of a large screen, some 35 MB at two bands. */
const TILES_KEPT = 64;
/** Blocks of 64 KiB of each file that are kept. */
const BLOCKS_KEPT = 64;
/** Files whose headers and blocks are kept, for drawing and for reading values each. */
const SOURCES_KEPT = 24;
/** By how much of its width the range of a band is widened on each side, for stretching. */
const ROOM = { grey: 0.5, rgb: 0.5, scalar: 0, classes: 0 };

export const hasWebGL = (() => {
  const canvas = document.createElement("canvas");
  return Boolean(canvas.getContext("webgl"));
})();

/** Return lowest and highest stored value that tiles distinguish, by band. */
function spreadOf(layer) {
  if (layer.kind === "classes") return layer.bands.map(() => [0, 255]);
  return layer.ranges.map(([low, high]) => {
    const room = ROOM[layer.kind] * (high - low);
    return [low - room, high + room];
  });
}

function sourceOf(layer, normalize) {
  const most = Math.max(...layer.bands);
  const [min, max] = [new Array(most), new Array(most)];
  spreadOf(layer).forEach(([low, high], i) => {
    min[layer.bands[i] - 1] = low;
    max[layer.bands[i] - 1] = high;
  });
  const info = { url: layer.url, bands: layer.bands, min, max };
  if (layer.nodata !== null) info.nodata = layer.nodata;
  return new sources.GeoTIFF({
    sources: [info],
    sourceOptions: { blockSize: 65536, cacheSize: BLOCKS_KEPT },
    normalize,
    projection: layer.projection,
    interpolate: layer.kind !== "classes" && !layer.stepped,
    transition: 0,
  });
}

/** Wait until a source has read its file's header. */
function ready(source) {
  return new Promise((resolve, reject) => {
    const look = () => {
      if (source.getState() === "ready") resolve(source);
      else if (source.getState() === "error") reject(source.getError() ?? new Error("it is not a readable GeoTIFF"));
      else return;
      source.un("change", look);
    };
    source.on("change", look);
    look();
  });
}

/**
 * Remember what a function makes for the layers asked for last, but not a failure: the next call tries again. What is on
 * the map stays there when it is forgotten here; a long time line does not fill the memory.
 */
function once(make) {
  const made = new Map();
  return (layer) => {
    const promise = made.get(layer) ?? make(layer);
    made.delete(layer);
    made.set(layer, promise);
    promise.catch(() => made.delete(layer));
    if (made.size > SOURCES_KEPT) made.delete(made.keys().next().value);
    return promise;
  };
}

const drawn = once((layer) => ready(sourceOf(layer, true)));
const probe = once((layer) => ready(sourceOf(layer, false)));

// --- colours

const clear = ["color", 0, 0, 0, 0];

/** Return the expression of a band's place between the style variables low0, high0 (low1, ...), 0 to 1. */
function stretched(band, i) {
  const [low, high] = [["var", `low${i}`], ["var", `high${i}`]];
  return ["clamp", ["/", ["-", ["band", band], low], ["-", high, low]], 0, 1];
}

function colourOf(layer) {
  if (layer.kind === "classes") {
    const pairs = (layer.legend?.entries ?? [])
      .filter((e) => e.value >= 0 && e.value <= 255)
      .flatMap((e) => [e.value, ["color", ...rgb(e.colour), 1]]);
    return pairs.length ? ["match", ["round", ["*", ["band", 1], 255]], ...pairs, clear] : clear;
  }
  if (layer.kind === "rgb") {
    const [red, green, blue] = [0, 1, 2].map((i) => stretched(Math.min(i, layer.bands.length - 1) + 1, i));
    return ["array", red, layer.greenIsMean ? ["/", ["+", red, blue], 2] : green, blue, 1];
  }
  const stops = stopsOf(layer.kind === "grey" ? "grey" : layer.ramp).flatMap(([at, c]) => [at, ["color", ...rgb(c), 1]]);
  return ["interpolate", ["linear"], stretched(1, 0), ...stops];
}

/** Return the style variables of a stretch, [[low, high] of each band] in stored values. */
export function stretchVariables(layer, stretch) {
  const variables = {};
  spreadOf(layer).forEach(([from, to], i) => {
    const [low, high] = stretch[i];
    variables[`low${i}`] = (low - from) / (to - from);
    variables[`high${i}`] = Math.max((high - from) / (to - from), variables[`low${i}`] + 1e-3);
  });
  for (let i = layer.bands.length; i < 3; i++) {
    variables[`low${i}`] = variables.low0;
    variables[`high${i}`] = variables.high0;
  }
  return variables;
}

/** Return [lowest, highest] stored value to which a band's stretch may be set. */
export const limitsOf = (layer) => spreadOf(layer)[0];

/**
 * Return a map layer of a raster, once its file's header is read.
 *
 * Where a pixel without data touches one with data, interpolation mixes its value in; so a pixel is drawn only where
 * its alpha, the last band, is whole.
 */
export async function rasterLayer(layer, stretch) {
  if (!layer.url) throw new Error("its address is not one of this map");
  if (!proj.get(layer.projection)) throw new Error(`its projection, ${layer.projection}, is not in the map`);
  const source = await drawn(layer);
  const alpha = source.nodataBandIndex;
  const colour = colourOf(layer);
  return new layers.WebGLTile({
    source,
    cacheSize: TILES_KEPT,
    style: {
      color: alpha ? ["case", ["<", ["band", alpha], 0.998], clear, colour] : colour,
      variables: stretchVariables(layer, stretch),
    },
  });
}

// --- values

/** Return the stored values of a raster's bands at a place [lon, lat], or null where it has none. */
async function storedAt(layer, lonLat) {
  const source = await probe(layer);
  const at = proj.fromLonLat(lonLat, layer.projection);
  const grid = source.getTileGrid();
  const [west, south, east, north] = grid.getExtent();
  if (!(at[0] >= west && at[0] < east && at[1] > south && at[1] <= north)) return null;
  const z = grid.getMaxZoom();
  const [, x, y] = grid.getTileCoordForCoordAndZ(at, z);
  const tile = source.getTile(z, x, y, 1, source.getProjection());
  const data = await loaded(tile);
  const [width, height] = tile.getSize();
  const [left, , , top] = grid.getTileCoordExtent([z, x, y]);
  const pixel = grid.getResolution(z);
  const column = Math.min(width - 1, Math.floor((at[0] - left) / pixel));
  const row = Math.min(height - 1, Math.floor((top - at[1]) / pixel));
  const values = [...data.slice((row * width + column) * source.bandCount, (row * width + column + 1) * source.bandCount)];
  return source.hasAlpha && values.pop() === 0 ? null : values;
}

function loaded(tile) {
  return new Promise((resolve, reject) => {
    const look = () => {
      if (tile.getData()) resolve(tile.getData());
      else if (tile.getError()) reject(tile.getError());
      else return;
      tile.removeEventListener("change", look);
    };
    tile.addEventListener("change", look);
    tile.load();
    look();
  });
}

/** Return a stored value in words, with its unit. */
export function physical(layer, stored) {
  const value = stored * layer.scale + layer.offset;
  const digits = Number.isInteger(layer.scale) && Number.isInteger(stored) ? 0 : Math.min(4, digitsOf(layer.scale));
  return `${value.toFixed(digits).replace("-", "−")}${layer.unit ? ` ${layer.unit}` : ""}`;
}

const digitsOf = (scale) => (scale === 1 ? 3 : Math.max(0, Math.ceil(-Math.log10(Math.abs(scale)) - 1e-9)));

/** Return the values of the bands that a colour picture is made of. */
function inColours(layer, stored) {
  const names = layer.greenIsMean ? ["red", null, "blue"] : ["red", "green", "blue"];
  return names.map((name, i) => name && `${name} ${physical(layer, stored[i])}`).filter(Boolean).join(", ");
}

/** Return what a raster says at a place [lon, lat], in words and, for classes, as an entry of the legend. */
export async function valueAt(layer, lonLat) {
  const stored = await storedAt(layer, lonLat);
  if (!stored) return { words: "no data" };
  if (layer.kind === "rgb") return { words: inColours(layer, stored) };
  if (layer.kind !== "classes") return { words: physical(layer, stored[0]) };
  const entry = layer.legend?.entries.find((e) => e.value === stored[0]);
  return { words: entry ? entry.label : `class ${stored[0]}`, entry };
}
