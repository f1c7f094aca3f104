// Which layers of other scenes, models and analysts are the same to the reader.

/**
 * What makes two layers of different scenes, or of different runs, the same to the reader. The polygons of a draft and of
 * its published chart are, whatever their titles.
 */
export const kin = (layer, run = layer.run) =>
  JSON.stringify([layer.group, layer.kind === "polygons" && run !== null ? "" : layer.title, layer.kind, layer.vector, run]);

/**
 * Return the layer of another scene that takes the place of a layer: the same to the reader, or of another model or analyst,
 * that which is shown at first before others.
 */
export const counterpart = (layer, others) =>
  others.find((l) => kin(l) === kin(layer)) ??
  (layer.run === null ? undefined : others.filter((l) => l.run !== null && kin(l, "") === kin(layer, "")).sort((a, b) => b.shown - a.shown)[0]);

/** Return [layer, opacity] of what a scene shows at first. */
export const shownAtFirst = (scene) => scene.layers.filter((l) => l.shown).map((l) => [l, 1]);
