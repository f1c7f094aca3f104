// map.json, the list of scenes, and the JSON of each scene, which is read when the scene is shown. All their strings
// come from names and files of users, so this module alone reads them, checks what the page computes with (addresses,
// colours, numbers), and leaves out, in words, what is wrong.

const FORMAT = 2;

const COLOUR = /^#[0-9a-f]{6}$/i;

const finite = (value, fallback) => (typeof value === "number" && Number.isFinite(value) ? value : fallback);
const text = (value, fallback = "") => (typeof value === "string" ? value : fallback);
const list = (value) => (Array.isArray(value) ? value : []);

/** Return an address below the page's own folder, or null: nothing is ever asked of elsewhere. */
export function ownAddress(address) {
  if (typeof address !== "string") return null;
  const base = new URL(".", document.baseURI);
  try {
    const url = new URL(address, base);
    return url.origin === base.origin && url.pathname.startsWith(base.pathname) ? url.href : null;
  } catch {
    return null;
  }
}

function legendOf(raw) {
  const entries = list(raw.entries)
    .filter((e) => Number.isInteger(e.value))
    .map((e) => ({
      value: e.value,
      name: text(e.name),
      label: text(e.label, text(e.name, String(e.value))),
      colour: COLOUR.test(e.color) ? e.color : "#888888",
      letter: text(e.letter),
      pattern: text(e.pattern),
    }));
  return { title: text(raw.title, "Legend"), note: text(raw.note), entries };
}

/** Return lowest and highest stored value of each band. */
function rangesOf(raw, bands) {
  const pairs = Array.isArray(raw.range?.[0]) ? raw.range : bands.map(() => raw.range ?? [0, 255]);
  return bands.map((_, i) => {
    const [low, high] = list(pairs[Math.min(i, pairs.length - 1)]).map((v) => finite(v, null));
    return low !== null && high !== null && high > low ? [low, high] : [0, 255];
  });
}

/** Return the stops of a ramp, [place, colour], whose places rise from 0 to 1; those that do not are left out. */
function stopsIn(raw) {
  const found = [];
  for (const [place, colour] of raw.filter(Array.isArray)) {
    const before = found.at(-1)?.[0] ?? -1;
    if (finite(place, -1) > before && place >= 0 && place <= 1 && COLOUR.test(colour)) found.push([place, colour]);
  }
  return found.length > 1 ? found : "viridis";
}

function layerOf(raw, scene, legends) {
  const bands = list(raw.bands).filter((b) => Number.isInteger(b) && b > 0);
  return {
    id: text(raw.id),
    title: text(raw.title, "Layer"),
    group: text(raw.group, "layer"),
    run: typeof raw.run === "string" ? raw.run : null,
    kind: ["grey", "rgb", "classes", "scalar"].includes(raw.kind) ? raw.kind : "scalar",
    url: ownAddress(raw.url),
    bands: bands.length ? bands : [1],
    nodata: finite(raw.nodata, null),
    ranges: rangesOf(raw, bands.length ? bands : [1]),
    scale: finite(raw.scale, 1),
    offset: finite(raw.offset, 0),
    unit: raw.unit === "1" ? "" : text(raw.unit),
    ramp: Array.isArray(raw.ramp) ? stopsIn(raw.ramp) : text(raw.ramp, "viridis"),
    stepped: raw.stepped === true,
    greenIsMean: raw.green_is_mean === true,
    legend: legends[raw.legend] ?? null,
    projection: text(raw.projection, scene.projection),
    status: text(raw.status),
    shown: raw.default === true,
    vector: false,
  };
}

function vectorOf(raw, legends) {
  return {
    id: text(raw.id),
    title: text(raw.title, "Layer"),
    group: { polygons: "chart", lines: "risk" }[raw.kind] ?? "layer",
    run: typeof raw.run === "string" ? raw.run : null,
    kind: ["polygons", "lines", "places"].includes(raw.kind) ? raw.kind : "polygons",
    url: ownAddress(raw.url),
    legend: legends[raw.legend] ?? null,
    status: text(raw.status),
    shown: raw.default === true,
    vector: true,
  };
}

function placeOf(raw, index) {
  const lon = finite(raw.lon, null);
  const lat = finite(raw.lat, null);
  if (lon === null || lat === null) return [];
  const radius = finite(raw.radius_m, null);
  return [{ rank: finite(raw.rank, index + 1), lon, lat, title: text(raw.title), why: text(raw.why), radius }];
}

/** Return what the list says of a scene; its layers are not read yet. */
function sceneOf(raw, index) {
  const scene = { id: text(raw.id, `scene-${index}`), projection: text(raw.projection, "EPSG:3413") };
  const extent = list(raw.extent).map((v) => finite(v, null));
  const time = Date.parse(text(raw.time));
  return Object.assign(scene, {
    name: text(raw.name, `Scene ${index + 1}`),
    short: text(raw.short, text(raw.name, `Scene ${index + 1}`)),
    time: Number.isNaN(time) ? null : time,
    mission: text(raw.mission),
    simulated: raw.simulated === true,
    status: text(raw.status),
    notice: text(raw.notice),
    extent: extent.length === 4 && !extent.includes(null) ? extent : null,
    pixel: finite(raw.pixel_m, null),
    footprint: raw.footprint && Array.isArray(raw.footprint.coordinates) ? raw.footprint : null,
    url: ownAddress(raw.url),
    layers: null,
    review: [],
  });
}

/** Return an Error whose message is for the reader and says that only this page, opened anew, helps. */
const stale = (words) => Object.assign(new Error(words), { stale: true });

const ANEW = "The map was made anew since this page was opened. Reload the page: it shows the same place.";
const SILENT = "The server of this map does not answer." +
  (["127.0.0.1", "localhost", "[::1]"].includes(location.hostname)
    ? ` Start floemap view again with --port ${location.port || 80}, then reload the page: it shows the same place.` : "");

/**
 * Ask for a file of the map. Rejects where the server does not have it, with a stale Error where the server is gone, or is
 * floemap's own, which has all files of a page that it gave; from another server a file may merely be missing.
 */
async function asked(url, options) {
  const answer = await fetch(url, options).catch(() => { throw stale(SILENT); });
  if (answer.status !== 404) return answer;
  const own = answer.headers.get("Server")?.startsWith("floemap/");
  throw opened && own ? stale(ANEW) : new Error("the server answers 404");
}

let opened = false; // the list of scenes was read
const asking = new Map();

/** Resolve with the Error with which `asked` rejects for a file, or null where the server has it. */
export function whyRefused(url) {
  if (!url) return Promise.resolve(null);
  if (!asking.has(url)) {
    const answer = asked(url, { method: "HEAD" }).then(() => null, (error) => error).finally(() => asking.delete(url));
    asking.set(url, answer);
  }
  return asking.get(url);
}

/** Fetch a JSON of the map. Rejects with an Error whose message is for the reader. */
async function fetched(url, name) {
  let raw;
  try {
    if (url === null) throw new Error("its address is not one of this map");
    const answer = await asked(url);
    if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
    raw = await answer.json();
  } catch (error) {
    throw error.stale ? error : new Error(`${name} cannot be read: ${error.message}.`);
  }
  if (raw?.format !== FORMAT) {
    throw new Error(`${name} has format ${raw?.format}, and this page reads format ${FORMAT}. Export the map again.`);
  }
  return raw;
}

/** Read what is drawn of a scene into it. Returns warnings and projections; rejects as `fetched` does. */
export async function readScene(scene) {
  const raw = await fetched(scene.url, `The scene “${scene.short}”`);
  const legends = Object.fromEntries(Object.entries(raw.legends ?? {}).map(([id, l]) => [id, legendOf(l)]));
  Object.assign(scene, sceneOf({ ...raw, id: scene.id, url: scene.url }, 0));
  scene.layers = [
    ...list(raw.layers).map((layer) => layerOf(layer, scene, legends)),
    ...list(raw.vectors).map((vector) => vectorOf(vector, legends)),
  ];
  scene.layers.forEach((layer, order) => { layer.order = order; });
  scene.review = list(raw.review).flatMap(placeOf);
  return { warnings: list(raw.warnings).filter((w) => typeof w === "string"), projections: raw.projections ?? {} };
}

/** Read map.json. Rejects as `fetched` does. */
export async function readMapFile() {
  const raw = await fetched(ownAddress("map.json"), "The list of scenes, map.json,");
  opened = true;
  const scenes = list(raw.scenes).map(sceneOf);
  // Scenes without a time come last, in the order of the file.
  scenes.sort((a, b) => (a.time ?? Infinity) - (b.time ?? Infinity) || 0);
  return {
    title: text(raw.title, "Ice map"),
    software: text(raw.floemap),
    coast: { url: ownAddress(raw.coast?.url), source: text(raw.coast?.source) },
    projections: raw.projections ?? {},
    warnings: list(raw.warnings).filter((w) => typeof w === "string"),
    scenes,
  };
}
