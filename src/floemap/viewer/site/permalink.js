// The state of the map in the address, after "#": who gets the address sees the same scene, place and layers.

const number = (text) => (text !== null && text !== "" && Number.isFinite(Number(text)) ? Number(text) : null);

/** Return the layers of a pane as text: ids with their opacity in percent where it is not whole. */
const layersToText = (chosen) =>
  [...chosen].map(([layer, opacity]) => encodeURIComponent(layer.id) + (opacity < 1 ? `~${Math.round(100 * opacity)}` : "")).join(",");

function layersFromText(text) {
  return text.split(",").filter(Boolean).map((part) => {
    const [id, percent] = part.split("~");
    try {
      return [decodeURIComponent(id), Math.min(1, Math.max(0, (number(percent ?? "100") ?? 100) / 100))];
    } catch {
      return ["", 1];
    }
  });
}

/** Return the state as text. `at` is [longitude, latitude] of the middle; `panes` hold their chosen layers. */
export function toHash({ scene, projection, at, resolution, rotation, layout, split, panes }) {
  const hash = new URLSearchParams();
  hash.set("s", scene);
  hash.set("p", projection);
  hash.set("c", `${at[1].toFixed(5)},${at[0].toFixed(5)}`);
  hash.set("r", Number(resolution.toPrecision(6)));
  if (rotation) hash.set("a", ((rotation * 180) / Math.PI).toFixed(1));
  if (layout !== "one") hash.set("m", layout === "swipe" ? `swipe,${Math.round(split)}` : `side,${panes.length}`);
  panes.forEach((chosen, i) => hash.set(`l${i}`, layersToText(chosen)));
  return hash.toString().replaceAll("%2C", ",").replaceAll("%3A", ":").replaceAll("%7E", "~");
}

/** Return what an address says; what it does not say, or says wrongly, is null. */
export function fromHash(text) {
  const hash = new URLSearchParams(text.replace(/^#/, ""));
  const [lat, lon] = (hash.get("c") ?? "").split(",").map(number);
  const resolution = number(hash.get("r"));
  const [layout, amount] = (hash.get("m") ?? "one").split(",");
  const count = layout === "side" ? Math.min(4, Math.max(2, number(amount ?? "") ?? 2)) : layout === "swipe" ? 2 : 1;
  return {
    scene: hash.get("s"),
    projection: hash.get("p"),
    at: Number.isFinite(lat) && Number.isFinite(lon) && Math.abs(lat) <= 90 ? [lon, lat] : null,
    resolution: resolution > 0 ? resolution : null,
    rotation: ((number(hash.get("a")) ?? 0) * Math.PI) / 180,
    layout: ["side", "swipe"].includes(layout) ? layout : "one",
    split: layout === "swipe" ? (number(amount ?? "") ?? 50) : 50,
    panes: Array.from({ length: count }, (_, i) => (hash.has(`l${i}`) ? layersFromText(hash.get(`l${i}`)) : null)),
  };
}
