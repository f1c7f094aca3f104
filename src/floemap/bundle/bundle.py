"""A part of a chart for a ship: cropped to an area, simplified to a number of bytes, in one zip.

The folder has the bundle's name and contains ``NAME.zip``, which is what to send, the same parts beside it to look at,
and ``bundle.json``, the record. The zip holds a text, ``about.json``, and the parts asked for. Equal charts and
settings give equal zips, byte for byte.
"""

from __future__ import annotations

import json
import logging
from bisect import bisect_left
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np

from floemap.bundle.area import Area, area_of, position
from floemap.bundle.crop import Crop, crop
from floemap.bundle.measures import changes
from floemap.bundle.picture import draw_picture
from floemap.bundle.settings import BundleSettings
from floemap.bundle.simplify import simplified, smallest_m2
from floemap.bundle.source import ChartFacts, find_chart
from floemap.bundle.summary import ascii_only, other_parts, summary
from floemap.errors import ChartError, ConfigError
from floemap.icechart.describe import areas_km2
from floemap.icechart.dominant_type import ice_types
from floemap.icechart.preview import kinds_and_colours
from floemap.icechart.read.codes import NOT_GIVEN
from floemap.icechart.read.own_charts import class_keys
from floemap.icechart.read.sigrid3 import Chart
from floemap.icechart.write.kml import write_kml
from floemap.icechart.write.s411 import s411_files, s411_names, write_s411
from floemap.icechart.write.table import FIELDS, ChartTable
from floemap.icechart.write.vector import EXACT, Exactness, write_geojson
from floemap.progress import Progress, silent
from floemap.results.folders import made_of, refuse_replacing, stage_folder, told_sources
from floemap.results.locks import scratch
from floemap.results.names import place_in
from floemap.results.stage import Stage, is_finished, provenance, sha256, write_json, write_whole
from floemap.version import __version__
from floemap.zips import zipped

logger = logging.getLogger(__name__)

RECORD = "bundle.json"
#: Raise the revision when the parts change for the same chart.
STAGE = Stage("floemap bundle", RECORD, revision=4, files=("*.zip", "*.txt", "*.png", "*.geojson", "*.kml", "*.json"))

#: Tolerances of the polygons, metres, and sizes of the picture, pixels, from the best to the smallest.
_TOLERANCES_M = (0.0, *(50.0 * 2**k for k in range(9)))
_PIXELS = (1200, 1000, 800, 650, 520, 420, 340, 280, 240)
#: Coarsest tolerance, as a share of how far the area reaches: coarser polygons no longer look like the chart.
_COARSEST = 1 / 20
#: Of the coarsest tolerances any may make the smallest files, as vertices are compressed.
_NEARLY = 2
#: Share of the bytes that the picture may take before the polygons get theirs.
_PICTURE_SHARE = 0.45


@dataclass(frozen=True)
class Bundle:
    """A bundle for a ship; `skipped` if it was finished before."""

    folder: Path
    skipped: bool = False

    @property
    def record(self) -> Path:
        """Path of bundle.json."""
        return self.folder / RECORD

    @property
    def zip(self) -> Path:
        """Path of the zip."""
        return self.folder / f"{self.folder.name}.zip"


def make_bundle(
    chart: str | Path,
    out: str | Path,
    settings: BundleSettings,
    *,
    name: str | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Bundle:
    """Make a bundle for a ship of a part of a chart: a zip of at most the bytes asked for.

    Parameters
    ----------
    chart
        Folder of `floemap chart` or `floemap publish`, or a file or exchange set that
        :func:`floemap.icechart.read.sigrid3.read_chart` reads. It is only read.
    out
        Folder that gets a folder with the bundle's name.
    settings
        See :class:`floemap.bundle.settings.BundleSettings`.
    name
        Name of the bundle; by default of time and place, as in "ice_20180116T0754Z_7730N01215W".
    overwrite
        Make a finished bundle again, and replace one of another chart.
    progress
        Progress callback, called as progress(done, total, message).

    Raises
    ------
    ChartError
        If the chart cannot be read, or has no polygon in the area.
    ConfigError
        If the area cannot be understood, the time of the chart is not known, or the parts do not fit the size; the
        message then has the smallest size, and the parts that would fit.
    OutputError
        If the bundle cannot be written.
    """
    progress(0, 3, "reading")
    area = area_of(settings.area)
    source, facts = find_chart(Path(chart), settings)
    name = name or f"ice_{facts.valid:%Y%m%dT%H%MZ}_{position(*area.middle).replace('-', '').replace(' ', '')}"
    folder = place_in(Path(out), name, "the bundle", kind=ConfigError)
    if not name.isascii():
        raise ConfigError(f"the name of the bundle is {name!r}.", hint="Use ASCII, which every ship's mail can carry.")
    inputs = {"chart": {p.name: sha256(p) for p in source.files}}
    area_file = Path(settings.area)
    if area_file.is_file():
        inputs["area"] = {area_file.name: sha256(area_file)}
    configuration = settings.model_dump(mode="json") | {"facts": _facts_in_words(facts)}
    if not overwrite and is_finished(folder, STAGE, inputs=inputs, configuration=configuration):
        logger.info("%s is finished already", folder)
        return Bundle(folder, skipped=True)
    sources = {"chart": source.path}
    refuse_replacing(folder, STAGE, sources=sources, inputs=inputs, replace_others=overwrite)  # before the work
    progress(1, 3, "cropping")
    maker = _Maker(crop(source, area), facts, settings, name)
    progress(2, 3, "simplifying to size")
    made = maker.fitting()
    with stage_folder(folder, STAGE, sources=sources, inputs=inputs, replace_others=overwrite) as partial:
        for file, content in made.parts.items():
            write_whole(partial / file, content)
        write_whole(partial / f"{name}.zip", made.zip)
        record = provenance(STAGE, inputs=inputs, configuration=configuration)
        record |= made.about | {"zip_bytes": len(made.zip), "pixels": made.pixels}
        record["files"] = {n: {"bytes": size, "sha256": sha256(partial / n)} for n, size in made_of(partial).items()}
        record |= {"sources": told_sources(folder, sources), "bytes": made_of(partial)}
        write_json(partial / RECORD, record)
    progress(3, 3, "done")
    return Bundle(folder)


def _facts_in_words(facts: ChartFacts) -> dict[str, Any]:
    """Return what is known of a chart for the files of a bundle."""
    found: dict[str, Any] = {"status": facts.status.words, "simulated": facts.simulated}
    found |= {"valid": facts.valid.isoformat()}
    found |= {"published": facts.published.isoformat()} if facts.published else {}
    found |= {"source": facts.source} | ({"by": facts.made_by} if facts.made_by else {})
    return found | ({"attribution": facts.attribution} if facts.attribution else {})


@dataclass(frozen=True)
class _Made:
    """A bundle in memory: its parts by name, its zip, what it says of itself, pixels of the picture."""

    parts: dict[str, bytes]
    zip: bytes
    about: dict[str, Any]
    pixels: int | None


@dataclass
class _Maker:
    """Makes bundles of one crop with any tolerance and picture; what was made is kept."""

    crop: Crop
    facts: ChartFacts
    settings: BundleSettings
    name: str
    _polygons: dict[tuple[float, str], dict[str, bytes]] = field(default_factory=dict)
    _charts: dict[float, tuple[Chart, dict[str, Any]]] = field(default_factory=dict)
    _pictures: dict[int, bytes] = field(default_factory=dict)

    @cached_property
    def whole(self) -> Chart:
        """The crop before it is simplified."""
        return self.crop.as_chart()

    @cached_property
    def text(self) -> str:
        """The text of all these bundles but its end."""
        return summary(self.whole, self.facts, self.area)

    @property
    def area(self) -> Area:
        return self.crop.area

    @cached_property
    def tolerances(self) -> list[float]:
        west, south, east, north = self.area.shape.bounds
        reach = max(east - west, north - south) / 2
        return [t for t in _TOLERANCES_M if t <= _COARSEST * reach] or [0.0]

    def fitting(self) -> _Made:
        """Return the best bundle that fits: the picture has its share, the polygons the rest, the picture what is left.

        Raises
        ------
        ConfigError
            If none does.
        """
        parts, most = self.settings.only, self.settings.max_bytes
        last = len(_PIXELS) - 1

        def fits(level: int, pixels: int) -> bool:
            return len(self.bundle(parts, level, pixels).zip) <= most

        pixels, levels = last, [0]
        if set(parts) != {"picture"}:
            levels = list(range(len(self.tolerances)))
        if "picture" in parts:
            share = most * (_PICTURE_SHARE if len(parts) > 1 else 1)
            pixels = bisect_left(range(last), True, key=lambda i: len(self.picture(_PIXELS[i])) <= share)
        level = bisect_left(levels, True, key=lambda n: fits(n, pixels))
        while level == len(levels):
            # The coarsest tolerance need not make the smallest bundle.
            level = next((n for n in levels[-_NEARLY:] if fits(n, pixels)), len(levels))
            if level == len(levels):
                if pixels == last:
                    raise self._too_large()
                pixels += 1
        while "picture" in parts and pixels > 0 and fits(level, pixels - 1):
            pixels -= 1
        return self.bundle(parts, level, pixels)

    def _smallest(self, parts: tuple[str, ...]) -> _Made:
        """Return the smallest bundle of some parts, that of the coarsest tolerance or of nearly so."""
        levels = range(len(self.tolerances))[-_NEARLY:]
        return min((self.bundle(parts, n, len(_PIXELS) - 1) for n in levels), key=lambda made: len(made.zip))

    def _too_large(self) -> ConfigError:
        """Return the error that no bundle fits, with what would."""
        most, parts = self.settings.max_bytes, self.settings.only
        smallest = self._smallest(parts)
        sizes = {
            name.removeprefix(self.name).lstrip("."): len(zipped({name: c}, self.facts.valid, level=9))
            for name, c in smallest.parts.items()
        }
        listed = ", ".join(f"{what} {size:,}" for what, size in sorted(sizes.items(), key=lambda pair: -pair[1]))
        fewer = [tuple(p for p in parts if p != left) for left in parts if len(parts) > 1] + [(p,) for p in parts]
        found = {}
        for some in dict.fromkeys(fewer):
            size = len(self._smallest(some).zip)
            if size <= most and some != parts:
                found[some] = size
        alone = len(self.bundle((), 0, 0).zip)
        hint = f"Text and record alone take {alone:,} bytes"
        if found:
            some = max(found, key=lambda s: (len(s), -found[s]))
            hint = f"--only {','.join(some)} takes {found[some]:,} bytes"
        message = f"the parts take at least {len(smallest.zip):,} bytes, more than the {most:,} asked for: {listed}."
        return ConfigError(
            message,
            hint=f"{hint}; --max {-(-len(smallest.zip) // 1000)}kB holds all of them; a smaller --area takes less.",
        )

    def picture(self, pixels: int) -> bytes:
        if pixels not in self._pictures:
            facts = self.facts
            draft = "DRAFT, " if facts.kind in ("draft", "correction") else ""
            warning = f"{'SIMULATED, ' if facts.simulated else ''}{draft}NOT FOR NAVIGATION"
            title = f"Ice chart, valid {facts.valid:%Y-%m-%d %H:%M} UTC"
            words = [f"Status: {facts.status.words}", f"Source: {facts.source}"]
            words += [f"By {facts.made_by}"] if facts.made_by else []
            words += [f"Area: {self.area.words}. North is up in the middle."]
            self._pictures[pixels] = draw_picture(
                self.whole, self.area, title, warning, [ascii_only(w) for w in words], pixels
            )
        return self._pictures[pixels]

    def simple(self, level: int) -> tuple[Chart, dict[str, Any]]:
        """Return the chart simplified with a tolerance, and what that changed."""
        tolerance = self.tolerances[level]
        if tolerance not in self._charts:
            chart = simplified(self.crop, tolerance).as_chart()
            found = {"tolerance_m": tolerance, "smallest_km2": smallest_m2(tolerance) / 1e6}
            self._charts[tolerance] = chart, found | changes(self.whole, chart)
        return self._charts[tolerance]

    def bundle(self, parts: tuple[str, ...], level: int, pixels: int) -> _Made:
        """Return the bundle of some parts with one tolerance and one size of the picture, by their numbers."""
        level = level if any(part != "picture" for part in parts) else 0
        chart, changed = self.simple(level)
        with_picture = "picture" in parts
        text = self.text + other_parts(parts, changed)
        about: dict[str, Any] = {"made_by": STAGE.command, "software": f"floemap {__version__}"}
        about |= _facts_in_words(self.facts) | {"area": self.area.words, "simplification": changed}
        made = {f"{self.name}.txt": text.encode("ascii")}
        made |= {f"{self.name}.png": self.picture(_PIXELS[pixels])} if with_picture else {}
        for part in parts:
            made |= self._vectors(part, level, chart) if part != "picture" else {}
        made["about.json"] = (json.dumps(about, indent=1, allow_nan=False) + "\n").encode()
        return _Made(made, zipped(made, self.facts.valid, level=9), about, _PIXELS[pixels] if with_picture else None)

    def _vectors(self, part: str, level: int, chart: Chart) -> dict[str, bytes]:
        """Return a part of polygons by the name of its file."""
        tolerance = self.tolerances[level]
        if (tolerance, part) not in self._polygons:
            self._polygons[tolerance, part] = self._written(part, tolerance, chart)
        return self._polygons[tolerance, part]

    def _written(self, part: str, tolerance: float, chart: Chart) -> dict[str, bytes]:
        table, facts = _table(chart, self.facts), self.facts
        about = {k: v for k, v in _facts_in_words(facts).items() if k != "status"} | {"area": self.area.words}
        about |= {"simplified_with_tolerance_m": tolerance, "concentrations": facts.status.history}
        how: dict[str, Any] = {"start": facts.valid, "about": about}
        how |= {"exactness": Exactness(4, max(1.0, tolerance / 10)) if tolerance else EXACT}
        with scratch("floemap-bundle-") as place:
            if part == "geojson":
                file = write_geojson(table, place / f"{self.name}.geojson", **how)
                return {file.name: file.read_bytes()}
            if part == "kml":
                kinds, colours = kinds_and_colours(chart, ice_types(chart, unmapped="ignore"))
                file = write_kml(table, place / f"{self.name}.kml", kinds=list(zip(kinds, colours, strict=True)), **how)
                return {file.name: file.read_bytes()}
            producer, own = s411_names(facts.valid, service=facts.service, region=facts.region)
            how |= {"axes": self.settings.s411_axes, "lake": self.settings.s411_lake}
            try:
                write_s411(table, place, producer=producer, name=own, **how)
            except ChartError as e:
                hint = f"{e.hint or ''} Leave S-411 out with --only, as in --only picture,geojson.".strip()
                raise ChartError(f"S-411 cannot be written: {e.message}", path=chart.path, hint=hint) from e
            files = {n: (place / n).read_bytes() for n in s411_files(producer, own)}
            return {f"S411_{producer}_{own}.zip": zipped(files, facts.valid, level=9)}


def _table(chart: Chart, facts: ChartFacts) -> ChartTable:
    """Return the table of a bundle's polygons: codes of SIGRID-3, class, area, status."""
    types = ice_types(chart, unmapped="ignore")
    known = [name for name in FIELDS if name.lower() in chart.polygons.columns]
    columns: dict[str, Any] = {
        name: [str(NOT_GIVEN) if code == NOT_GIVEN else f"{code:02d}" for code in chart.codes(name.lower()).tolist()]
        for name in known
        if name != "POLY_TYPE"
    }
    columns |= {
        "POLY_TYPE": chart.polygons["poly_type"].tolist(),
        "CLASS": class_keys(types, facts.legend),
        "AREA_KM2": areas_km2(chart).round(2),
        "STATUS": [facts.status.words] * len(chart),
        "SIMULATED": ["yes" if facts.simulated else "no"] * len(chart),
    }
    ordered = {n: columns[n] for n in FIELDS if n in columns}
    table = gpd.GeoDataFrame(
        ordered, geometry=list(np.asarray(chart.geometries)), crs=chart.crs, index=chart.polygons.index
    )
    return ChartTable(table, facts.legend, facts.status)
