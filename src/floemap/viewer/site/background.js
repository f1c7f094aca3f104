// What lies behind and above all scenes: land, coastline, graticule, footprints. Drawn for polar maps, where libraries'
// graticules fail: around a pole all meridians meet, and a view may hold every longitude.

const { extent: extents, Feature, format, geom, layer: layers, proj, source: sources, style: styles } = globalThis.ol;

/** Latitude beyond which a coastline of the other hemisphere is left out: polar maps stretch it without end. */
const FARTHEST = 15;

/** Return the geometry with the positions beyond the map's reach brought to its edge, or null where all are beyond. */
function within(geometry, north) {
  const flat = geometry.getFlatCoordinates();
  let inside = false;
  for (let i = 1; i < flat.length; i += geometry.getStride()) {
    inside ||= north ? flat[i] > FARTHEST : flat[i] < -FARTHEST;
    flat[i] = north ? Math.max(flat[i], FARTHEST) : Math.min(flat[i], -FARTHEST);
  }
  return inside ? geometry : null;
}

function parts(geometry) {
  return geometry.getPolygons?.() ?? geometry.getLineStrings?.() ?? [geometry];
}

let coast = null;

/** Return the coastline's features on a projection. */
export async function coastline(url, code, north) {
  coast ??= fetch(url).then((answer) => {
    if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
    return answer.json();
  });
  const features = new format.GeoJSON().readFeatures(await coast);
  return features
    .filter((f) => f.getGeometry())
    .flatMap((f) => parts(f.getGeometry()))
    .map((part) => within(part, north))
    .filter(Boolean)
    .map((part) => new Feature(part.transform("EPSG:4326", code)));
}

const landFill = new styles.Fill({ color: "#e1d7c3" });
const landLine = new styles.Stroke({ color: "#6d5f49", width: 1.1 });

/** Return [land below the rasters, coastline above them] that share a source. */
export function coastLayers() {
  const source = new sources.Vector();
  const land = new layers.Vector({ source, zIndex: 1, style: new styles.Style({ fill: landFill }) });
  const line = new layers.Vector({ source, zIndex: 500, style: new styles.Style({ stroke: landLine }) });
  return { source, land, line };
}

// --- graticule

/** Steps of parallels and meridians, degrees. */
const STEPS = [30, 20, 10, 5, 2, 1, 0.5, 0.25, 1 / 6, 1 / 12, 1 / 30, 1 / 60];
/** Samples on each side of the view by which its positions are found. */
const SAMPLES = 24;
/** Meridians further from the pole than this many degrees are all drawn; nearer, every third. */
const NEAR_POLE = 2;

const stepFor = (span, most) => STEPS.filter((s) => span / s <= most).pop() ?? STEPS[0];

/** Return the positions [lon, lat] of a grid over a rectangle of the map. */
function sampled([west, south, east, north], code) {
  const found = [];
  for (let i = 0; i <= SAMPLES; i++) {
    for (let j = 0; j <= SAMPLES; j++) {
      const x = west + ((east - west) * i) / SAMPLES;
      const y = south + ((north - south) * j) / SAMPLES;
      const at = proj.toLonLat([x, y], code);
      if (at.every(Number.isFinite)) found.push(at);
    }
  }
  return found;
}

/** Return [first, span] of the shortest arc that holds all longitudes: it may run over 180 degrees. */
export function arcOf(longitudes) {
  const sorted = longitudes.map((l) => ((l % 360) + 360) % 360).sort((a, b) => a - b);
  let [gap, after] = [sorted[0] + 360 - sorted.at(-1), 0];
  for (let i = 1; i < sorted.length; i++) {
    if (sorted[i] - sorted[i - 1] > gap) [gap, after] = [sorted[i] - sorted[i - 1], i];
  }
  return [sorted[after], 360 - gap];
}

const lineStyle = new styles.Style({ stroke: new styles.Stroke({ color: "rgba(40,70,110,.45)", width: 1 }) });

const LABEL_PX = 11;

/** Return the box of a label, [left, lower, right, upper] in pixels from the left lower corner of the map. */
function boxOf(text, [x, y], align, parallel) {
  const width = 0.65 * LABEL_PX * text.length;
  const left = x - { left: 0, center: width / 2, right: width }[align];
  const lower = y - (parallel ? LABEL_PX / 2 : 0);
  return [left - 2, lower - 2, left + width + 2, lower + LABEL_PX + 4];
}

const overlap = (one, other) => one[0] < other[2] && other[0] < one[2] && one[1] < other[3] && other[1] < one[3];

/**
 * Return the name of a line of the graticule as a feature at the edge of the view, off what is to be seen: a parallel's
 * at the left, a meridian's at the bottom, and of boxes that are `taken`. Nothing for a line that is not in the view.
 */
function labelled(text, feature, { centre, rotation, half, size, taken }, parallel) {
  const [cos, sin] = [Math.cos(rotation), Math.sin(rotation)];
  // Positions on the screen from the left lower corner, as shares of its width and height.
  const onScreen = feature.getGeometry().getCoordinates().map((at) => {
    const [x, y] = [at[0] - centre[0], at[1] - centre[1]];
    return { at, shares: [0.5 + (x * cos + y * sin) / (2 * half[0]), 0.5 + (y * cos - x * sin) / (2 * half[1])] };
  });
  const alignOf = (share) => (share < 0.08 ? "left" : share > 0.92 ? "right" : "center");
  const boxed = ({ shares }) => boxOf(text, shares.map((share, i) => share * size[i]), alignOf(shares[0]), parallel);
  const inside = onScreen.filter((place) =>
    place.shares.every((share) => share > 0.01 && share < 0.99) && !taken.some((box) => overlap(box, boxed(place))));
  if (!inside.length) return [];
  const axis = parallel ? 0 : 1;
  const lowest = inside.reduce((least, other) => (other.shares[axis] < least.shares[axis] ? other : least));
  const point = new Feature(new geom.Point(lowest.at));
  point.setStyle(new styles.Style({
    text: new styles.Text({
      text,
      textAlign: alignOf(lowest.shares[0]),
      textBaseline: parallel ? "middle" : "bottom",
      font: `${LABEL_PX}px system-ui, sans-serif`,
      fill: new styles.Fill({ color: "#24405f" }),
      stroke: new styles.Stroke({ color: "rgba(255,255,255,.8)", width: 3 }),
    }),
  }));
  return [point];
}

/** Return degrees and minutes of a meridian or parallel, as "80° N", "12° 30′ W". */
function name(value, signs) {
  const minutes = Math.round(Math.abs(value) * 60);
  const rest = minutes % 60;
  const sign = value === 0 || Math.abs(value) === 180 ? "" : ` ${signs[value < 0 ? 1 : 0]}`;
  return `${Math.floor(minutes / 60)}°${rest ? ` ${String(rest).padStart(2, "0")}′` : ""}${sign}`;
}

const line = (positions, code) =>
  new Feature(new geom.LineString(positions.map((at) => proj.fromLonLat(at, code))));

/**
 * Return the parallels and meridians in a view, with their names.
 *
 * `frame` is the view on the projection `code`: its `centre`, its `rotation` in radians, `half` its width and height,
 * its `size` in pixels, and the boxes in which no name is to be, [left, lower, right, upper] in pixels from its corner.
 */
export function graticule(frame, code) {
  const { centre, half } = frame;
  const reach = frame.rotation ? Math.hypot(...half) : null;
  const view = [-1, -1, 1, 1].map((sign, i) => centre[i % 2] + sign * (reach ?? half[i % 2]));
  const positions = sampled(view, code);
  if (!positions.length) return [];
  const latitudes = positions.map(([, lat]) => lat);
  let [low, high] = [Math.min(...latitudes), Math.max(...latitudes)];
  const [north, south] = [90, -90].map((lat) => extents.containsCoordinate(view, proj.fromLonLat([0, lat], code)));
  if (north) high = 90;
  if (south) low = -90;
  const [first, span] = north || south ? [-180, 360] : arcOf(positions.map(([lon]) => lon));
  const parallel = stepFor(Math.max(high - low, 0.05), 7);
  const meridian = stepFor(Math.max(span, 0.05), 13);
  const drawn = [];
  for (let k = Math.ceil(low / parallel); k * parallel <= high; k++) {
    const lat = k * parallel;
    if (Math.abs(lat) >= 90) continue;
    const lons = Array.from({ length: 121 }, (_, i) => first + (span * i) / 120);
    const feature = line(lons.map((lon) => [lon, lat]), code);
    drawn.push(feature, ...labelled(name(lat, "NS"), feature, frame, true));
  }
  const limit = high > 90 - NEAR_POLE ? 90 - NEAR_POLE : low < NEAR_POLE - 90 ? NEAR_POLE - 90 : null;
  for (let k = Math.ceil(first / meridian); k * meridian < first + span + (span < 360 ? 1e-9 : -1e-9); k++) {
    const lon = ((((k * meridian + 180) % 360) + 360) % 360) - 180;
    const [from, to] = limit === null || k % 3 === 0 ? [low, high] : limit > 0 ? [low, limit] : [limit, high];
    if (from >= to) continue;
    const lats = Array.from({ length: 41 }, (_, i) => from + ((to - from) * i) / 40);
    const feature = line(lats.map((lat) => [lon, lat]), code);
    drawn.push(feature, ...labelled(name(lon, "EW"), feature, frame, false));
  }
  return drawn;
}

/** Return the layer of the graticule; its source is filled when the view has moved. */
export const graticuleLayer = () =>
  new layers.Vector({ source: new sources.Vector(), zIndex: 700, style: lineStyle, declutter: "graticule" });

// --- footprints

const outline = (colour, width, dash) =>
  new styles.Style({
    stroke: new styles.Stroke({ color: colour, width, lineDash: dash }),
    fill: new styles.Fill({ color: "rgba(0,0,0,0.001)" }),
  });
const OF_OTHERS = outline("rgba(90,60,150,.65)", 1, [5, 4]);
const OF_SHOWN = outline("rgba(90,60,150,.95)", 1.6);

/** Edges that an outline needs at least, so that it follows the ground on every projection. */
const EDGES = 32;

/** Return a ring with positions along its edges, if it has few of them. */
function dense(ring) {
  const out = [];
  const pieces = Math.ceil(EDGES / (ring.length - 1));
  for (let i = 1; i < ring.length; i++) {
    const [[x0, y0], [x1, y1]] = [ring[i - 1], ring[i]];
    const turn = Math.round((x1 - x0) / 360) * 360; // an edge over 180 degrees takes the short way
    for (let k = 0; k < pieces; k++) out.push([x0 + ((x1 - turn - x0) * k) / pieces, y0 + ((y1 - y0) * k) / pieces]);
  }
  return [...out, ring.at(-1)];
}

/** Return the outlines of scenes, the shown one in a line of its own. */
export function footprints(scenes, shown, code, north) {
  return scenes.flatMap((scene) => {
    const ring = scene.footprint?.type === "Polygon" ? scene.footprint.coordinates[0] : null;
    if (!Array.isArray(ring) || ring.length < 4 || !ring.flat().every(Number.isFinite)) return [];
    if (ring.every(([, lat]) => lat >= 0 !== north)) return [];
    const feature = new Feature(new geom.Polygon([dense(ring).map((at) => proj.fromLonLat(at, code))]));
    feature.set("scene", scene.id);
    feature.setStyle(scene === shown ? OF_SHOWN : OF_OTHERS);
    return [feature];
  });
}
