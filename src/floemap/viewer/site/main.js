// The page: reads map.json, and connects maps, lists, time line and address. Each of these is a module of its own.

import { coastline, footprints as outlines, graticule } from "./background.js";
import { button, byId, el, say, tell } from "./dom.js";
import { makeHelp } from "./help.js";
import { counterpart, kin, shownAtFirst } from "./kin.js";
import { showLayers } from "./layerlist.js";
import { showLegend } from "./legend.js";
import { readMapFile, readScene } from "./mapfile.js";
import { coastSource, footprints, graticuleSource, marks, Panes } from "./panes.js";
import { fromHash, toHash } from "./permalink.js";
import { clearPlace, showPlace } from "./place.js";
import { inWords, known, northUp, offered, register } from "./projections.js";
import { hasWebGL } from "./rasters.js";
import { Review } from "./review.js";
import { centreFor, inSight, seen } from "./sight.js";
import { minute, Timeline } from "./timeline.js";

const { extent: extents, Feature, geom, proj } = globalThis.ol;
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** Longest time that coastline and outlines of scenes wait for the first picture. */
const REST_WAITS_MS = 3000;

/** Read what is drawn of a scene, once. Rejects with an Error whose message is for the reader. */
async function load(scene) {
  scene.reading ??= readScene(scene).then(({ warnings, projections }) => {
    register(projections);
    for (const warning of warnings) tell(warning, "warning");
    if (!scene.layers.length) tell(`Nothing of the scene “${scene.short}” can be shown.`);
  });
  try {
    await scene.reading;
  } catch (error) {
    scene.reading = null; // to be tried again
    throw error;
  }
}

/** Return the scene that an address asks for, or the first one. */
const askedFor = (file, hash) => file.scenes.find((s) => s.id === fromHash(hash).scene) ?? file.scenes[0];

class App {
  constructor(file) {
    this.file = file;
    this.scene = null;
    this.wanted = null; // the scene that is shown as soon as it is read
    this.options = { filled: "pattern", labels: "letters" };
    this.gridOn = true;
    this.pictured = new Promise((resolve) => { this.noteFirstPicture = resolve; });
    this.panes = new Panes(byId("maps"), {
      options: this.options,
      changed: () => this.changed(),
      moved: () => this.moved(),
      rendered: () => this.rendered(),
      unsettled: () => delete document.documentElement.dataset.drawn,
      hover: (at) => { byId("where").textContent = inWords(proj.toLonLat(at, this.code)); },
      pick: (at) => this.pick(at),
    });
    this.review = new Review(byId("review"), (place, words) => this.showReview(place, words));
    this.timeline = new Timeline(byId("timeline"), file.scenes, (scene) => this.showScene(scene), () => this.drawFootprints());
    this.help = makeHelp(file);
    this.makeTools();
  }

  get code() {
    return this.panes.view.getProjection().getCode();
  }

  /** Names of the models or losses whose layers the scene has. */
  get runs() {
    return [...new Set(this.scene.layers.map((l) => l.run).filter((run) => run !== null))];
  }

  // --- scene, projection, view

  /** Read a scene. Returns whether it can be shown, and is still the one that is to be shown. */
  async ready(scene) {
    delete document.documentElement.dataset.drawn;
    this.wanted = scene;
    try {
      await load(scene);
    } catch (error) {
      tell(error);
      if (this.wanted === scene) {
        this.wanted = this.scene;
        this.timeline.mark(this.scene);
        this.rendered();
      }
      return false;
    }
    return this.wanted === scene;
  }

  /** Show what an address says, and for the rest what the file says is shown at first. */
  async start(hash) {
    this.address = hash; // the last one that was followed or written
    const asked = fromHash(hash);
    const scene = askedFor(this.file, hash);
    if (!(await this.ready(scene))) return;
    this.scene = scene;
    const code = known(asked.projection ?? "") ? asked.projection : offered(this.scene).find(([c]) => c === this.scene.projection)?.[0] ?? "EPSG:3413";
    this.panes.split = asked.split;
    for (const pane of this.panes.all) {
      pane.clear();
      pane.run = null;
    }
    this.panes.arrange(asked.layout, asked.panes.length);
    this.setProjection(code);
    if (asked.at) this.panes.setView(code, proj.fromLonLat(asked.at, code), asked.resolution ?? 2000, asked.rotation);
    else this.fit(false);
    // Layers are numbered in each scene anew: those of a scene that is gone say nothing about this one.
    const ofScene = asked.scene === null || asked.scene === scene.id;
    asked.panes.map((chosen) => (ofScene ? chosen : null)).forEach((chosen, i) => {
      const pane = this.panes.all[i];
      const named = (chosen ?? []).flatMap(([id, opacity]) => this.scene.layers.filter((l) => l.id === id).map((l) => [l, opacity]));
      // An address of an earlier map may name layers that are no longer there.
      const layers = named.length || chosen?.length === 0 ? named : shownAtFirst(this.scene);
      layers.forEach(([layer, opacity]) => pane.choose(layer, opacity));
    });
    this.sceneShown();
  }

  /** Show another scene: the same kinds of layers, and the same place if the scene is there. */
  async showScene(scene) {
    if (scene === this.wanted) return;
    this.timeline.mark(scene); // so that the next step begins there, also while it is read
    if (!(await this.ready(scene))) return;
    if (scene === this.scene) return this.rendered(); // back before the other one was read
    const wanted = this.panes.all.map((pane) => [...pane.chosen].map(([layer, opacity]) => [counterpart(layer, scene.layers), opacity]));
    this.panes.all.forEach((pane) => pane.clear());
    this.scene = scene;
    const usable = offered(scene).some(([code, , fits]) => code === this.code && fits);
    if (!usable) this.setProjection(known(scene.projection) ? scene.projection : "EPSG:3413");
    if (!usable || !this.inView(scene)) this.fit(false);
    this.panes.all.forEach((pane, i) => {
      if (!this.runs.includes(pane.run)) pane.run = null;
      const same = wanted[i].filter(([layer]) => layer);
      for (const [layer, opacity] of same.length ? same : shownAtFirst(scene)) pane.choose(layer, opacity);
    });
    marks.clear();
    this.sceneShown();
    say(`Scene ${scene.short}, ${minute(scene.time)}`);
  }

  sceneShown() {
    const { scene } = this;
    this.review.take(scene.review);
    this.timeline.mark(scene);
    clearPlace(byId("place"));
    this.showProjections();
    this.drawFootprints();
    document.title = `${scene.simulated ? "SIMULATED: " : ""}${scene.name} – ${this.file.title}`;
    const names = scene.short === scene.name ? [minute(scene.time), scene.mission] : [scene.name];
    byId("title").replaceChildren(el("span", { class: "scene", title: scene.name }, scene.short),
      el("span", { class: "of", title: `${scene.name}, ${this.file.title}` }, [...names, this.file.title].filter(Boolean).join(" · ")));
    byId("place-note").textContent = scene.notice;
    byId("place-note").title = scene.notice ?? "";
    this.changed();
  }

  /** Say whether the scene is simulated, and of each status that something drawn has: a draft may lie beside its final chart. */
  showBadges() {
    const { scene } = this;
    const drawn = new Set(this.panes.all.flatMap((pane) => [...pane.chosen.keys()].map((layer) => layer.status)).filter(Boolean));
    const badges = [];
    if (scene.simulated) badges.push(el("strong", { class: "badge simulated" }, "SIMULATED"));
    if (!drawn.size && scene.status) drawn.add(scene.status);
    for (const status of drawn) badges.push(el("strong", { class: `badge ${status === "published" ? "" : "draft"}` }, status.toUpperCase()));
    badges.push(el("strong", { class: "badge" }, "NOT FOR NAVIGATION"));
    byId("badges").replaceChildren(...badges);
  }

  extentOf(scene, code) {
    const found = scene.extent ? proj.transformExtent(scene.extent, scene.projection, code, 16) : null;
    return found?.every(Number.isFinite) ? found : null;
  }

  inView(scene) {
    const found = this.extentOf(scene, this.code);
    const size = this.panes.all[0].map.getSize();
    return found && size ? extents.intersects(found, this.panes.view.calculateExtent(size)) : false;
  }

  /** Show the whole scene. */
  fit(moving = true) {
    const found = this.extentOf(this.scene, this.code);
    if (!found) return;
    const size = this.panes.all[0].map.getSize() ?? [800, 600];
    this.panes.view.fit(found, { size, padding: [16, 16, 16, 16], duration: moving && !calm.matches ? 250 : 0 });
  }

  setProjection(code) {
    const before = this.panes.view;
    if (before && before.getProjection().getCode() === code) return;
    let [centre, resolution] = [[0, 0], 4000];
    if (before) {
      const from = before.getProjection();
      const lonLat = proj.toLonLat(before.getCenter(), from);
      centre = proj.fromLonLat(lonLat, code);
      const scale = proj.getPointResolution(from, 1, before.getCenter(), "m") / proj.getPointResolution(code, 1, centre, "m");
      resolution = before.getResolution() * (Number.isFinite(scale) ? scale : 1);
    }
    if (!centre.every(Number.isFinite)) centre = [0, 0];
    this.panes.setView(code, centre, resolution);
    marks.clear();
    this.drawFootprints();
    this.drawCoast(code);
  }

  /**
   * Wait for the first picture: to put a coastline, or the outlines of a thousand scenes, on a projection takes as long
   * as to draw a raster.
   */
  afterPicture() {
    return Promise.race([this.pictured, new Promise((done) => setTimeout(done, REST_WAITS_MS))]);
  }

  async drawCoast(code) {
    const { url } = this.file.coast;
    if (!url) return;
    await this.afterPicture();
    if (code !== this.code) return;
    const north = this.scene.extent ? proj.toLonLat(extents.getCenter(this.scene.extent), this.scene.projection)[1] >= 0 : true;
    try {
      const features = await coastline(url, code, north);
      if (code !== this.code) return;
      coastSource.clear();
      coastSource.addFeatures(features);
    } catch (error) {
      tell(`The coastline cannot be read: ${error.message}.`);
    }
  }

  async drawFootprints() {
    await this.afterPicture();
    if (!this.panes.view || !this.scene) return;
    footprints.clear();
    if (this.file.scenes.length < 2) return;
    const at = proj.toLonLat(this.panes.view.getCenter(), this.code);
    footprints.addFeatures(outlines(this.timeline.inRange, this.scene, this.code, at[1] >= 0));
  }

  moved() {
    this.resting = this.after(this.resting, 120, () => {
      this.resting = null;
      this.drawGrid();
      this.keepAddress();
    });
  }

  /** Do something after some milliseconds, in place of what waits as `timer`; till then not all is drawn. */
  after(timer, wait, what) {
    clearTimeout(timer);
    delete document.documentElement.dataset.drawn;
    return setTimeout(() => {
      what();
      this.rendered();
    }, wait);
  }

  drawGrid() {
    const size = this.panes.all[0].map.getSize();
    if (!size) return;
    graticuleSource.clear();
    if (!this.gridOn) return;
    const { view } = this.panes;
    const half = size.map((pixels) => (pixels * view.getResolution()) / 2);
    const frame = { centre: view.getCenter(), rotation: view.getRotation(), half, size, taken: this.panes.taken() };
    graticuleSource.addFeatures(graticule(frame, this.code));
  }

  keepAddress() {
    const { view } = this.panes;
    // What was asked for in the meantime, by an address or a scene, is shown first: this view is not to take its place.
    if (!view?.getCenter() || this.scene !== this.wanted || location.hash !== this.address) return;
    const hash = toHash({
      scene: this.scene.id,
      projection: this.code,
      at: proj.toLonLat(view.getCenter(), this.code),
      resolution: view.getResolution(),
      rotation: view.getRotation(),
      layout: this.panes.layout,
      split: this.panes.split,
      panes: this.panes.all.map((pane) => pane.chosen),
    });
    history.replaceState(null, "", `#${hash}`);
    this.address = location.hash;
  }

  /** Note in the page that all is drawn, lists and address included, for tests and for measuring. */
  rendered() {
    if (this.scene !== this.wanted) return;
    const waits = (pane) => !pane.settled || [...pane.states.values()].includes("reading");
    if (this.panes.all.some(waits)) return;
    if (!performance.getEntriesByName("first-picture").length) performance.mark("first-picture");
    this.noteFirstPicture();
    if (!this.relisting && !this.resting) document.documentElement.dataset.drawn = "yes";
  }

  // --- layers

  choose(layer, opacity, relist = true) {
    const pane = this.panes.current;
    pane.choose(layer, opacity);
    if (relist) this.changed();
    else this.moved();
  }

  restretch(layer) {
    this.panes.all.forEach((pane) => pane.restretch(layer));
    showLegend(byId("legend"), this.panes.current, this.options);
  }

  refill(options) {
    Object.assign(this.options, options);
    this.panes.all.forEach((pane) => pane.restyle());
    showLegend(byId("legend"), this.panes.current, this.options);
  }

  /** Show the layers of another run instead of those of the present one. */
  showRun(pane, run) {
    const before = pane.run ?? [...pane.chosen.keys()].map((l) => l.run).find((r) => r !== null) ?? null;
    pane.run = run;
    if (run !== null) {
      const chosen = [...pane.chosen].filter(([l]) => l.run !== null && l.run !== run);
      let moved = 0;
      for (const [layer, opacity] of chosen) {
        pane.choose(layer, null);
        const same = this.scene.layers.find((l) => kin(l) === kin(layer, run));
        if (same) moved += pane.choose(same, opacity) ?? 1;
      }
      const first = this.scene.layers.find((l) => l.run === run && ["classes", "polygons"].includes(l.kind));
      if (!moved && before !== run && first && ![...pane.chosen.keys()].some((l) => l.run === run)) pane.choose(first, 1);
    }
    this.changed();
  }

  /**
   * Lay the maps out anew. A new map shows the layers of the first, of the next model or loss if there are several; what was
   * shown stays in one of them.
   */
  arrange(layout, count) {
    const added = this.panes.arrange(layout, count);
    const first = this.panes.all[0];
    const { runs } = this;
    const shown = [...first.chosen.keys()].map((l) => l.run).find((run) => run !== null) ?? runs[0];
    const some = [shown, ...runs.filter((run) => run !== shown)].slice(0, count);
    const before = [...first.chosen];
    const inOrder = [...runs.filter((run) => some.includes(run)), ...runs];
    if (added.length && runs.length > 1 && !first.run) this.showRun(first, inOrder[0]);
    for (const pane of added) {
      const taken = this.panes.all.map((p) => p.run);
      const run = inOrder.find((r) => !taken.includes(r)) ?? runs[pane.index % runs.length];
      for (const [layer, opacity] of run === shown ? before : first.chosen) pane.choose(layer, opacity);
      if (runs.length > 1) this.showRun(pane, run);
    }
    if (added.length) this.panes.activate(added[0].index);
    this.moved();
    this.changed();
  }

  changed() {
    if (!this.scene || !this.panes.view) return;
    this.relisting = this.after(this.relisting, 30, () => {
      this.relisting = null;
      this.showBadges();
      showLayers(byId("layer-list"), this);
      showLegend(byId("legend"), this.panes.current, this.options);
      for (const pane of this.panes.all) {
        const names = [...pane.chosen.keys()].sort((a, b) => b.order - a.order).map((l) => l.title);
        pane.title.textContent = [`${"ABCD"[pane.index]}`, pane.run, names.slice(0, 2).join(" over ")].filter(Boolean).join(" · ");
        pane.title.hidden = this.panes.all.length < 2;
      }
      const { layout, all } = this.panes;
      for (const b of document.querySelectorAll("#tools [data-layout]")) {
        b.setAttribute("aria-pressed", String(b.dataset.layout === `${layout}${layout === "side" ? all.length : ""}`));
      }
      this.moved();
    });
  }

  // --- places

  /** Show what is at a place that was clicked, and mark it with its polygon. */
  async pick(at) {
    const point = new Feature(new geom.Point(at));
    marks.clear();
    marks.addFeature(point);
    this.open("info");
    this.uncover(at);
    const polygon = (await this.describe(at)).find(([, layer]) => layer.kind === "polygons");
    if (polygon && marks.hasFeature(point)) marks.addFeature(new Feature(polygon[0].get("borders") ?? polygon[0].getGeometry()));
  }

  /** Fill the panel with what all panes show at a place of the map. Resolves with the features there, and their layers. */
  describe(at, lead = "") {
    const lonLat = proj.toLonLat(at, this.code);
    const features = this.featuresAt(lonLat);
    const others = this.scenesAt(at);
    showPlace(byId("place"), { lonLat, xy: at, code: this.code, features, panes: this.panes.all, lead }).catch((e) => tell(e.message));
    if (others.length) byId("place").append(el("h3", {}, "Other scenes here"), el("ul", { class: "scenes" }, others));
    return features;
  }

  /** Return the features of all panes at a place [lon, lat], each once, as soon as all that are chosen are read. */
  async featuresAt(lonLat) {
    await Promise.all(this.panes.all.map((pane) => pane.vectorsRead()));
    const at = proj.fromLonLat(lonLat, this.code);
    const seen = new Set();
    return this.panes.all.flatMap((pane) => pane.featuresAt(at)).filter(([feature]) => !seen.has(feature) && seen.add(feature));
  }

  scenesAt(at) {
    const ids = footprints.getFeaturesAtCoordinate(at).map((f) => f.get("scene"));
    return this.timeline.inRange.filter((s) => s !== this.scene && ids.includes(s.id)).slice(0, 12).map((s) =>
      el("li", {}, el("button", { type: "button", onclick: () => this.showScene(s) }, s.short, s.short === s.name ? null : el("small", {}, s.name))));
  }

  showReview({ lon, lat, radius }, words) {
    const centre = proj.fromLonLat([lon, lat], this.code);
    marks.clear();
    const { view } = this.panes;
    const metres = proj.getPointResolution(this.code, 1, centre, "m");
    const reach = (radius ?? 5000) / metres;
    marks.addFeature(new Feature(new geom.Point(centre)));
    if (radius) marks.addFeature(new Feature(new geom.Circle(centre, reach)));
    this.describe(centre, words);
    const { map } = this.panes.all[0];
    const resolution = (6 * reach) / Math.min(...seen(map));
    view.animate({ center: centreFor(map, centre, resolution), resolution, duration: calm.matches ? 0 : 300 });
  }

  /** Move the map where a place on it lies under a panel. */
  uncover(at) {
    const [{ map }, { view }] = [this.panes.all[0], this.panes];
    if (inSight(map, at)) return;
    view.animate({ center: centreFor(map, at, view.getResolution()), duration: calm.matches ? 0 : 250 });
  }

  // --- tools

  makeTools() {
    const layoutButton = (text, label, layout, count) =>
      button(text, label, () => this.arrange(layout, count), { "data-layout": `${layout}${layout === "side" ? count : ""}` });
    this.projections = el("select", { "aria-label": "Projection", title: "Projection", onchange: () => this.changeProjection(this.projections.value) });
    const zoom = (by) => this.panes.view.animate({ zoom: this.panes.view.getZoom() + by, duration: calm.matches ? 0 : 150 });
    byId("tools").append(
      this.projections,
      el("span", { class: "set", role: "group", "aria-label": "Maps" },
        layoutButton("1", "One map (1)", "one", 1),
        layoutButton("⇔", "Two maps under a swipe (s)", "swipe", 2),
        layoutButton("2", "Two maps side by side (2)", "side", 2),
        layoutButton("3", "Three maps side by side (3)", "side", 3),
        layoutButton("4", "Four maps side by side (4)", "side", 4)),
      el("span", { class: "set" },
        button("−", "Zoom out", () => zoom(-1)), button("+", "Zoom in", () => zoom(1)),
        button("Fit", "Whole scene (f)", () => this.fit()), button("N↑", "North up (u)", () => this.turn()),
        button("#", "Graticule (g)", () => this.toggleGrid(), { id: "grid", "aria-pressed": "true" })),
      button("?", "Help (?)", () => this.help.showModal()));
    for (const [id, text] of [["layers", "Layers"], ["info", "Place and review"]]) {
      byId("sheets").append(el("button", { type: "button", "aria-controls": id, "aria-expanded": "false", onclick: () => this.open(document.body.dataset.sheet === id ? "" : id, true) }, text));
    }
    document.addEventListener("keydown", (event) => this.key(event));
    addEventListener("hashchange", () => location.hash !== this.address && this.start(location.hash));
    addEventListener("resize", () => this.moved());
  }

  /** Open a panel where the screen is too narrow to show all. */
  open(id) {
    document.body.dataset.sheet = id;
    for (const b of byId("sheets").children) b.setAttribute("aria-expanded", String(b.getAttribute("aria-controls") === id));
  }

  showProjections() {
    this.projections.replaceChildren(...offered(this.scene).map(([code, title, fits]) => el("option", { value: code, disabled: !fits }, title)));
    this.projections.value = this.code;
  }

  changeProjection(code) {
    this.setProjection(code);
    this.showProjections();
    if (!this.inView(this.scene)) this.fit(false);
    this.changed();
    say(`Projection ${this.projections.selectedOptions[0]?.textContent}`);
  }

  turn() {
    const { view } = this.panes;
    view.animate({ rotation: view.getRotation() ? 0 : northUp(view.getCenter(), this.code), duration: calm.matches ? 0 : 250 });
  }

  /** Show the outlines of polygons only, or fill them again. */
  toggleFill() {
    this.refill({ filled: this.options.filled === "outline" ? "pattern" : "outline" });
    this.changed();
  }

  toggleGrid() {
    this.gridOn = !this.gridOn;
    byId("grid").setAttribute("aria-pressed", String(this.gridOn));
    this.drawGrid();
  }

  key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || this.help.open) return;
    if (event.target.closest("input:not([type=checkbox]):not([type=range]), select, textarea")) return;
    const keys = {
      n: () => this.review.step(1), p: () => this.review.step(-1),
      "[": () => this.timeline.step(-1), "]": () => this.timeline.step(1),
      1: () => this.arrange("one", 1), 2: () => this.arrange("side", 2), 3: () => this.arrange("side", 3), 4: () => this.arrange("side", 4),
      s: () => this.arrange("swipe", 2), f: () => this.fit(), u: () => this.turn(), g: () => this.toggleGrid(), o: () => this.toggleFill(),
      Escape: () => this.open(""), "?": () => this.help.showModal(),
    };
    if (!Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key]();
  }
}

async function begin() {
  byId("layers").append(el("div", { class: "scroll" }, el("div", { id: "layer-list" }), el("div", { id: "legend" })));
  byId("info").append(el("div", { id: "place" }), el("div", { id: "review" }));
  try {
    const file = await readMapFile().finally(() => byId("waiting").remove());
    register(file.projections);
    file.warnings.forEach((warning) => tell(warning, "warning"));
    byId("credits").textContent = file.coast.source ? `Coastline: ${file.coast.source}` : "";
    if (!file.scenes.length) throw new Error("There is no scene to show.");
    if (!hasWebGL) tell("This browser offers no WebGL, so rasters cannot be drawn. Polygons, values and places to review are shown.");
    await load(askedFor(file, location.hash));
    new App(file).start(location.hash);
  } catch (error) {
    tell(error);
    throw error;
  }
}

begin();
