// Polygons, lines and places from GeoJSON: read once, put on the map's projection, drawn in the legend's colours.

import { patternOf, rgb, tileOf } from "./colours.js";
import { eggLines, isBergyWater, readEgg } from "./egg.js";

const { format, geom, layer: layers, proj, source: sources, style: styles } = globalThis.ol;

const files = new Map();

async function geojson(url) {
  if (!files.has(url)) {
    const answer = fetch(url).then((a) => {
      if (!a.ok) throw new Error(`the server answers ${a.status}`);
      return a.json();
    });
    answer.catch(() => files.delete(url));
    files.set(url, answer);
  }
  return files.get(url);
}

/** Return whether an edge of a polygon is where GeoJSON cuts it at the 180th meridian: it is no border on the ground. */
const isCut = (one, other) => Math.abs(one[0]) === 180 && one[0] === other[0];

/** Return the borders of a polygon in degrees without the cut at the 180th meridian, or null where there is none. */
function bordersOf(geometry) {
  const rings = { Polygon: () => geometry.getCoordinates(), MultiPolygon: () => geometry.getCoordinates().flat() }[geometry.getType()]?.() ?? [];
  const cut = (ring) => ring.some((at, i) => i > 0 && isCut(ring[i - 1], at));
  if (!rings.some(cut)) return null;
  const lines = rings.flatMap((ring) => {
    const pieces = [[ring[0]]];
    for (let i = 1; i < ring.length; i++) {
      if (isCut(ring[i - 1], ring[i])) pieces.push([]);
      pieces.at(-1).push(ring[i]);
    }
    return pieces.filter((piece) => piece.length > 1);
  });
  return new geom.MultiLineString(lines);
}

const onMap = new Map();

/** Return the features of a GeoJSON file, with names of properties in capitals, in a projection. */
export async function featuresOf(url, projection) {
  const key = `${projection} ${url}`;
  if (!onMap.has(key)) {
    if (onMap.size > 24) onMap.clear(); // a long time line must not fill the memory
    const read = new format.GeoJSON().readFeatures(await geojson(url)).filter((f) => f.getGeometry());
    for (const feature of read) {
      const borders = bordersOf(feature.getGeometry());
      for (const part of [feature.getGeometry(), borders]) part?.transform("EPSG:4326", projection);
      const upper = {};
      for (const [name, value] of Object.entries(feature.getProperties())) {
        if (name !== "geometry") upper[name.toUpperCase()] = value;
      }
      feature.set("own", upper, true);
      feature.set("borders", borders, true);
    }
    onMap.set(key, read.filter((f) => f.getGeometry().getExtent().every(Number.isFinite)));
  }
  return onMap.get(key);
}

/** Return [entry of the legend, its place in it] of a polygon by CLASS, or of a line by LEVEL: its key or its value. */
export function entryOf(feature, legend) {
  const name = feature.get("own").CLASS ?? feature.get("own").LEVEL;
  const entries = legend?.entries ?? [];
  const index = entries.findIndex((e) => e.name === name || e.value === name || e.label === name);
  return [entries[index] ?? null, index];
}

const ink = "rgba(25,32,45,.9)";
/** How strongly polygons are filled: the radar below them is to be seen. */
const FILL = 0.4;
const halo = new styles.Stroke({ color: "rgba(255,255,255,.85)", width: 3 });

/** Colours of polygons without a class, as in all pictures of charts; bergy water is dotted. */
const LAND = "#e1d7c3", BERGY = "#96c8ff", SHELF = "#d2d7ff", OTHER = "#888888";

/** Return [fill, letters, colour] of a polygon by its class and the way to fill. */
function faceOf(feature, layer, filled) {
  const own = feature.get("own");
  const [entry, index] = entryOf(feature, layer.legend);
  const land = own.POLY_TYPE === "L" || own.CLASS === "land";
  const bergy = !entry && isBergyWater(own);
  const colour = entry?.colour ?? (land ? LAND : bergy ? BERGY : own.POLY_TYPE === "S" ? SHELF : OTHER);
  const letters = entry ? entry.letter || entry.label.slice(0, 3) : bergy ? "Bergy" : "";
  if (filled === "outline") return [new styles.Fill({ color: "rgba(0,0,0,0)" }), letters, colour];
  if (filled === "colour" || land) return [new styles.Fill({ color: `rgba(${rgb(colour).join(",")},${FILL})` }), letters, colour];
  const tile = tileOf(colour, entry ? patternOf(entry, index) : bergy ? "." : "", FILL);
  const pattern = document.createElement("canvas").getContext("2d").createPattern(tile, "repeat");
  return [new styles.Fill({ color: pattern }), letters, colour];
}

function polygonStyle(layer, options) {
  const kept = new Map();
  return (feature, resolution) => {
    const own = feature.get("own");
    const key = `${own.CLASS} ${own.POLY_TYPE} ${isBergyWater(own)} ${options.filled}`;
    if (!kept.has(key)) kept.set(key, faceOf(feature, layer, options.filled));
    const [fill, letters, colour] = kept.get(key);
    const [west, south, east, north] = feature.getGeometry().getExtent();
    const across = Math.min(east - west, north - south) / resolution;
    const egg = options.labels === "eggs" && across > 90 ? readEgg(own) : null;
    const words = egg?.types.length ? eggLines(egg).join("\n") : options.labels !== "none" && across > 26 ? letters : "";
    const font = `600 ${egg ? 11 : 12}px system-ui, sans-serif`;
    const text = words ? new styles.Text({ text: words, font, fill: new styles.Fill({ color: ink }), stroke: halo }) : undefined;
    // An outline has the colour of its class, with a dark edge that shows it on bright radar.
    const strokes = options.filled === "outline" ? [[ink, 3.6], [colour, 1.8]] : [[ink, 1]];
    const geometry = feature.get("borders") ?? undefined;
    return [
      new styles.Style({ fill, text }),
      ...strokes.map(([color, width]) => new styles.Style({ geometry, stroke: new styles.Stroke({ color, width }) })),
    ];
  };
}

function plainStyle(layer) {
  return (feature) => {
    const own = feature.get("own");
    const [isLeg, isPiece] = ["leg", "piece"].map((kind) => own.FEATURE === kind);
    const colour = entryOf(feature, layer.legend)[0]?.colour ?? (isPiece ? OTHER : "#d6008f");
    const name = isPiece ? null : own.NAME ?? own.TITLE ?? own.LEG;
    return new styles.Style({
      zIndex: isLeg ? 0 : 1,
      fill: new styles.Fill({ color: "rgba(255,255,255,.08)" }),
      // A leg is the edge of its pieces, which have the colours of their levels.
      stroke: isLeg ? new styles.Stroke({ color: ink, width: 6.5 }) : new styles.Stroke({ color: colour, width: isPiece ? 4 : 2.5 }),
      image: new styles.Circle({ radius: 5, fill: new styles.Fill({ color: colour }), stroke: new styles.Stroke({ color: "#fff", width: 1.5 }) }),
      text: name === undefined || name === null ? undefined : new styles.Text({
        text: String(name).slice(0, 60), offsetY: -12, font: "12px system-ui, sans-serif",
        fill: new styles.Fill({ color: "#8a005c" }), stroke: halo,
      }),
    });
  };
}

/** Return a map layer of a vector file. `options` holds `filled` (pattern, colour, outline) and `labels` (letters, eggs, none). */
export async function vectorLayer(layer, projection, options) {
  if (!layer.url) throw new Error("its address is not one of this map");
  if (!proj.get(projection)) throw new Error(`the projection ${projection} is not in the map`);
  const source = new sources.Vector({ features: await featuresOf(layer.url, projection) });
  return new layers.Vector({
    source,
    style: layer.kind === "polygons" ? polygonStyle(layer, options) : plainStyle(layer),
    declutter: layer.id,
  });
}
