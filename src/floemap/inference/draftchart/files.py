"""The files of a draft chart: the names that belong to each output, and how each is written."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np

from floemap.cog import Band, write_cog
from floemap.errors import ChartError
from floemap.icechart.draw.mixtures import mixture_areas
from floemap.icechart.draw.polygonize import ChartPolygons, vectorize
from floemap.icechart.write.s411 import s411_files, s411_names, write_s411
from floemap.icechart.write.sigrid3 import sigrid3_name, write_sigrid3
from floemap.icechart.write.vector import write_geojson, write_geopackage, write_style
from floemap.inference.draftchart.egg_basis import EggBasis
from floemap.inference.draftchart.polaris_layer import polaris_names, write_polaris
from floemap.inference.draftchart.qgis_project import write_project
from floemap.inference.draftchart.radar import write_radar
from floemap.inference.draftchart.review_spots import review_spots, write_spots
from floemap.inference.draftchart.settings import ChartSettings, Output
from floemap.inference.draftchart.source import PreparedScene
from floemap.inference.predict.scene_maps import NO_VALUE, SCORE_STEP, STEP, SceneMaps, class_band, probability_bands
from floemap.inference.predict.uncertainty import MEANINGS
from floemap.legend import IGNORE
from floemap.own_legends import tags_of
from floemap.progress import Progress, between
from floemap.qgis_raster import classes_style, heat_style
from floemap.qgis_raster import write_style as write_raster_style

logger = logging.getLogger(__name__)

_SIGRID3 = (".shp", ".shx", ".dbf", ".prj", ".cpg", ".xml", ".qml")
#: Outputs that are made from polygons.
_FROM_POLYGONS: frozenset[Output] = frozenset({"chart", "sigrid3", "s411", "geojson", "quicklook", "polaris"})


def files_of(output: Output, start: datetime, settings: ChartSettings) -> tuple[str, ...]:
    """Return the names of the files that belong to an output."""
    if output == "s411":
        return s411_files(*s411_names(start, service=settings.service, region=settings.region))
    if output == "sigrid3":
        name = sigrid3_name(start, service=settings.service, region=settings.region)
        return tuple(name + suffix for suffix in _SIGRID3)
    if output == "polaris":
        return tuple(name for ship in settings.ice_class for name in polaris_names(ship))
    names: Mapping[Output, tuple[str, ...]] = {
        "classes": ("classes.tif", "classes.qml"),
        "probabilities": ("probabilities.tif",),
        "uncertainty": ("uncertainty.tif", "uncertainty.qml"),
        "chart": ("chart.gpkg", "chart.qml"),
        "review": ("review.gpkg",),
        "geojson": ("chart.geojson",),
        "netcdf": ("chart.nc",),
        "grid": ("grid.nc",),
        "quicklook": ("quicklook.png",),
        "radar": ("radar.tif",),
        "project": ("chart.qgz",),
    }
    return names[output]


@dataclass
class Steps:
    """Seconds that each step of a chart took, by name; some steps run at the same time."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure the time of a block, or of a function if used as its decorator."""
        began = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - began, 2)


@dataclass(frozen=True)
class Written:
    """The outputs of a draft chart.

    Attributes
    ----------
    files
        File names by output.
    left_out
        Reasons why an output is missing, by output.
    polygons
        The polygons of the chart; None if no output needed them.
    spots
        The spots to review first, see :func:`floemap.inference.draftchart.review_spots.review_spots`; None if no output
        needed them.
    """

    files: dict[Output, tuple[str, ...]]
    left_out: dict[Output, str]
    polygons: ChartPolygons | None
    spots: gpd.GeoDataFrame | None


@dataclass(frozen=True)
class ChartParts:
    """Everything that the files of a chart are made from.

    Attributes
    ----------
    maps
        Classes, probabilities and uncertainty of each pixel.
    scene
        The prepared product.
    settings
        Settings of the chart.
    about
        Facts about the chart, for the files of polygons and the NetCDF.
    notes
        Lines of text for the picture.
    basis
        What eggs are estimated from; None if they are not.
    """

    maps: SceneMaps
    scene: PreparedScene
    settings: ChartSettings
    about: dict[str, Any]
    notes: Sequence[str]
    basis: EggBasis | None = None


def write_outputs(
    folder: Path, outputs: Sequence[Output], parts: ChartParts, steps: Steps, progress: Progress
) -> Written:
    """Write the requested outputs into a folder.

    A thread writes the GeoTIFFs and the project while polygons are drawn, and after them the NetCDF files, which need
    most memory.

    Raises
    ------
    ChartError
        If no polygon can be drawn.
    OutputError
        If a file cannot be written.
    """
    scene = parts.scene
    files: dict[Output, tuple[str, ...]] = {o: files_of(o, scene.start, parts.settings) for o in outputs}
    left_out: dict[Output, str] = {}
    by_thread: dict[Output, Callable[[Path, ChartParts], None]] = {
        "probabilities": _write_probabilities,
        "uncertainty": _write_uncertainty,
        "classes": _write_classes,
        "radar": _write_radar,
        "project": functools.partial(_write_project, names=[name for some in files.values() for name in some]),
    }
    with ThreadPoolExecutor(1, thread_name_prefix="floemap-write") as pool:
        futures = []

        def begin(output: Output, write: Callable[[Path, ChartParts], None]) -> None:
            if output in files:
                timed = steps.step(f"writing {output}")(write)
                futures.append(pool.submit(timed, folder / files[output][0], parts))

        for output, write in by_thread.items():
            begin(output, write)
        try:
            chart = None
            if _FROM_POLYGONS & files.keys():
                with steps.step("drawing polygons"):
                    chart = _draw(parts, progress)
            spots = _find_spots(folder, files, parts, steps)
            begin("netcdf", _write_netcdf)
            if "grid" in files and parts.basis is None:
                left_out["grid"] = "concentrations were not estimated"
            else:
                begin("grid", _write_grid)
            progress(2, 4, "writing polygons")
            for output in ("chart", "sigrid3", "s411", "geojson"):
                if output in files and chart is not None:
                    with steps.step(f"writing {output}"):
                        reason = _write_polygons(folder, output, files[output], chart, parts)
                    if reason is not None:
                        left_out[output] = reason
            if files.get("polaris") and chart is not None:
                with steps.step("writing polaris"):
                    _write_risk(folder, chart, parts)
            progress(3, 4, "writing rasters")
            if "quicklook" in files:
                with steps.step("writing quicklook"):
                    _draw_picture(folder / files["quicklook"][0], chart, spots, parts)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        for future in futures:
            future.result()
    return Written({o: names for o, names in files.items() if o not in left_out}, left_out, chart, spots)


def _timeless(parts: ChartParts) -> dict[str, Any]:
    """Return the facts without the time of creation, which only chart.json has: equal charts have equal files."""
    return {k: v for k, v in parts.about.items() if k != "created"}


def _tags(parts: ChartParts) -> dict[str, str]:
    about = {k: str(v) for k, v in _timeless(parts).items() if k != "simulated"}
    simulated = "yes" if parts.about["simulated"] else "no"
    start = parts.scene.start.isoformat()
    return about | {"simulated": simulated, "start": start, "AREA_OR_POINT": "Area"} | tags_of(parts.maps.legend)


def _write_classes(path: Path, parts: ChartParts) -> None:
    band = class_band(parts.maps.legend)
    if parts.maps.land is not None:
        band = replace(band, categories=dict(band.categories) | {IGNORE: "land or no data"})
    write_cog(path, parts.maps.geobox, parts.maps.classes, [band], nodata=IGNORE, tags=_tags(parts))
    write_raster_style(path, classes_style(parts.maps.legend))


def _write_probabilities(path: Path, parts: ChartParts) -> None:
    bands = probability_bands(parts.maps.legend)
    write_cog(path, parts.maps.geobox, parts.maps.probabilities, bands, nodata=NO_VALUE, tags=_tags(parts))


def _write_uncertainty(path: Path, parts: ChartParts) -> None:
    values = parts.maps.uncertainty
    bands = [Band(name, "1", MEANINGS[name], scale=STEP, overview="nearest") for name in values]
    write_cog(path, parts.maps.geobox, np.stack(list(values.values())), bands, nodata=NO_VALUE, tags=_tags(parts))
    write_raster_style(path, heat_style(0, 1))


def _write_radar(path: Path, parts: ChartParts) -> None:
    write_radar(path, parts.scene.raster, _tags(parts))


def _write_project(path: Path, parts: ChartParts, *, names: Sequence[str]) -> None:
    write_project(path, names, parts.maps.geobox, parts.maps.legend, _timeless(parts))


def _write_netcdf(path: Path, parts: ChartParts) -> None:
    from floemap.inference.draftchart.netcdf import write_netcdf

    write_netcdf(
        path,
        parts.maps,
        start=parts.scene.start,
        stop=parts.scene.stop,
        attributes=_global_attributes(parts),
        probabilities=parts.settings.netcdf_probabilities,
        concentrations=None if parts.basis is None else parts.about["concentrations"],
    )


def _write_grid(path: Path, parts: ChartParts) -> None:
    from floemap.inference.draftchart.polar_grid import write_grid

    write_grid(
        path,
        parts.maps,
        parts.settings.cell_m,
        start=parts.scene.start,
        stop=parts.scene.stop,
        attributes=_global_attributes(parts),
        concentrations=parts.about["concentrations"],
    )


def _global_attributes(parts: ChartParts) -> dict[str, str]:
    """Return the facts about a chart as global attributes of NetCDF files."""
    about = parts.about
    attributes = {
        "title": f"Draft ice chart of {about['product']}",
        "institution": str(about.get("contact", "not given")),
        "source": f"{about['product']}, model {about['model']}",
        "history": f"{about['created']} {about['software']} floemap chart",
        "references": "SIGRID-3, WMO/JCOMM TR-23; WMO sea-ice nomenclature, WMO No. 259",
        "comment": f"{about['status']}. {'SIMULATED. ' if about['simulated'] else ''}Land mask: {about['land_mask']}.",
    }
    attributes |= {k: str(v) for k, v in about.items() if k != "status"}
    return attributes | {"simulated": "yes" if about["simulated"] else "no"}


def _draw(parts: ChartParts, progress: Progress) -> ChartPolygons:
    maps = parts.maps
    eggs = None if parts.basis is None else parts.basis.source(maps)
    areas = None
    if parts.settings.polygons == "mixtures" and eggs is not None:
        areas = mixture_areas(
            maps.classes,
            eggs,
            maps.legend.water,
            pixel_m=float(abs(maps.geobox.resolution.x)),
            smallest_km2=parts.settings.min_area_km2,
        )
    return vectorize(
        maps.classes,
        maps.geobox,
        maps.legend,
        min_area_km2=parts.settings.min_area_km2,
        tolerance_m=parts.about["tolerance_m"],
        smoothing_m=parts.settings.smoothing_m,
        probabilities=maps.probabilities,
        probability_step=STEP,
        scores=maps.score_steps(),
        score_step=SCORE_STEP,
        land=maps.land,
        eggs=eggs,
        areas=areas,
        progress=between(progress, 0, 0.5),
    )


def _write_polygons(
    folder: Path, output: Output, names: Sequence[str], chart: ChartPolygons, parts: ChartParts
) -> str | None:
    """Write the polygons in one format; return the reason if they cannot be expressed in it, else None."""
    start, about = parts.scene.start, {k: v for k, v in _timeless(parts).items() if k != "status"}
    if output == "chart":
        write_geopackage(chart, folder / names[0], start=start, about=about)
        write_style(chart.legend, folder / names[1])
    elif output == "sigrid3":
        dated = about | {"created": parts.about["created"]}  # its metadata must contain the date
        write_sigrid3(chart, folder, start=start, about=dated, name=Path(names[0]).stem)
        write_style(chart.legend, folder / names[-1])
    else:
        try:
            if output == "s411":
                own = parts.settings
                producer, name = s411_names(start, service=own.service, region=own.region)
                write_s411(
                    chart,
                    folder,
                    start=start,
                    about=about,
                    producer=producer,
                    name=name,
                    axes=own.s411_axes,
                    lake=own.s411_lake,
                )
            else:
                write_geojson(chart, folder / names[0], start=start, about=about)
        except ChartError as e:
            # Where longitude and latitude cannot be used, the coordinates of the map still can.
            logger.warning("%s was left out: %s", names[0], e)
            return str(e)
    return None


def _find_spots(
    folder: Path, files: Mapping[Output, Sequence[str]], parts: ChartParts, steps: Steps
) -> gpd.GeoDataFrame | None:
    """Find the spots to review first, and write them, if an output needs them."""
    if not {"review", "quicklook"} & files.keys():
        return None
    with steps.step("finding spots to review"):
        spots = review_spots(parts.maps)
    if "review" in files:
        write_spots(spots, folder / files["review"][0], start=parts.scene.start)
    return spots


def _write_risk(folder: Path, chart: ChartPolygons, parts: ChartParts) -> None:
    about = {k: v for k, v in _timeless(parts).items() if k != "status"}
    for ship in parts.settings.ice_class:
        write_polaris(folder, ship, chart, parts.maps.geobox, start=parts.scene.start, about=about)


def _draw_picture(path: Path, chart: ChartPolygons | None, spots: gpd.GeoDataFrame | None, parts: ChartParts) -> None:
    from floemap.cartography import where_is
    from floemap.inference.draftchart.picture import PictureWords, draw_chart_picture

    scene = parts.scene
    which = scene.record["scene"]
    words = PictureWords(
        title=f"Ice chart, {scene.start:%Y-%m-%d %H:%M} UTC, Sentinel-{which['mission'][1:]} {which['mode']}",
        subtitle=f"{which['name']}, {which['pass_direction'].lower()}. {where_is(parts.maps.geobox)}.",
        notes=parts.notes,
        simulated=bool(parts.about["simulated"]),
    )
    draw_chart_picture(path, parts.maps, chart, spots, scene.raster, words)
