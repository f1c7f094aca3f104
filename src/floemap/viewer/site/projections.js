// Map projections: those of the map, positions in words, and which of them show a scene.

import { tell } from "./dom.js";

const { proj } = globalThis.ol;

/** Projections that the map always offers. The first two and the third have their poles in the middle. */
const POLAR = {
  "EPSG:3413": { title: "Arctic, 45° W down (3413)", north: true },
  "EPSG:3995": { title: "Arctic, 0° down (3995)", north: true },
  "EPSG:3031": { title: "Antarctic (3031)", north: false },
};
/** Half the side of a polar map, metres: it reaches some 20 degrees from the equator. */
const HALF = 9e6;

/** Make the projections of map.json known to OpenLayers. */
export function register(definitions) {
  for (const [code, definition] of Object.entries(definitions)) {
    try {
      globalThis.proj4.defs(code, String(definition));
    } catch (error) {
      tell(`The projection ${code} cannot be used: ${error.message ?? error}`);
    }
  }
  proj.proj4.register(globalThis.proj4);
  for (const code of Object.keys(POLAR)) proj.get(code)?.setExtent([-HALF, -HALF, HALF, HALF]);
}

export const known = (code) => proj.get(code) !== null;

/** Return [code, title, usable] of the projections that the map offers for a scene. */
export function offered(scene) {
  const codes = Object.keys(POLAR).filter(known);
  if (scene && known(scene.projection) && !codes.includes(scene.projection)) codes.push(scene.projection);
  const north = scene?.extent ? centreOf(scene)[1] >= 0 : true;
  return codes.map((code) => [code, POLAR[code]?.title ?? `The scene's own${code.startsWith("EPSG:") ? ` (${code.slice(5)})` : ""}`, POLAR[code]?.north !== !north]);
}

/** Return longitude and latitude of the middle of a scene. */
export function centreOf(scene) {
  const [west, south, east, north] = scene.extent;
  return proj.toLonLat([(west + east) / 2, (south + north) / 2], scene.projection);
}

/** Return the angle, radians, by which a map is turned so that north is up at a place of it. */
export function northUp(centre, code) {
  const [lon, lat] = proj.toLonLat(centre, code);
  const step = lat > 89.9 ? -0.01 : 0.01;
  const [x, y] = proj.fromLonLat([lon, lat + step], code);
  return -Math.atan2((x - centre[0]) / step, (y - centre[1]) / step);
}

function degrees(value, signs) {
  const minutes = Math.round(Math.abs(value) * 6000) / 100;
  const whole = Math.floor(minutes / 60);
  return `${whole}° ${(minutes - 60 * whole).toFixed(2).padStart(5, "0")}′ ${signs[value < 0 ? 1 : 0]}`;
}

/** Return a position in degrees and minutes, as "78° 12.50′ N, 012° 03.10′ W". */
export function inWords([lon, lat]) {
  const east = ((((lon + 180) % 360) + 360) % 360) - 180;
  return `${degrees(lat, "NS")}, ${degrees(east, "EW").padStart(13, "0")}`;
}
