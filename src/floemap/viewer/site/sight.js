// What of a map can be seen: on a narrow screen, an open panel covers its lower part.

/** Pixels between a place that is in sight and what covers the map. */
const ROOM_PX = 12;

/** Return how many pixels of a map, from below, lie under a panel. */
function covered(map) {
  const { sheet } = document.body.dataset;
  const panel = sheet && document.getElementById(sheet);
  if (!panel || getComputedStyle(panel).position !== "absolute") return 0;
  const { bottom, height } = map.getTargetElement().getBoundingClientRect();
  return Math.min(height, Math.max(0, bottom - panel.getBoundingClientRect().top));
}

/** Return width and height, in pixels, of what can be seen of a map. */
export function seen(map) {
  const [width, height] = map.getSize() ?? [800, 600];
  return [width, Math.max(40, height - covered(map))];
}

/** Return whether a place on a map is not under a panel. */
export function inSight(map, at) {
  const pixel = map.getPixelFromCoordinate(at);
  return !pixel || !map.getSize() || pixel[1] < map.getSize()[1] - covered(map) - ROOM_PX;
}

/** Return the centre of a view of a map in which a place is in the middle of what can be seen. */
export function centreFor(map, [x, y], resolution) {
  const down = (resolution * covered(map)) / 2;
  const turn = map.getView().getRotation();
  return [x + down * Math.sin(turn), y - down * Math.cos(turn)];
}
