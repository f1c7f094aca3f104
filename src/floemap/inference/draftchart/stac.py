"""The STAC item of a draft chart: connects its files with the product, the models and the software they are made from.

It is derived from the item of the prepared product, with the same footprint, time, radar and grid. The classification
extension describes the classes, the MLM extension the models.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pystac
from pystac.extensions.classification import Classification, ClassificationExtension
from pystac.extensions.file import FileExtension
from pystac.extensions.mlm import MLMExtension
from pystac.extensions.raster import DataType, RasterBand, RasterExtension

from floemap.bands import BandSet
from floemap.errors import MISSHAPEN, ProductError
from floemap.inference.draftchart.source import PreparedScene
from floemap.inference.predict.model_files import ModelFile
from floemap.inference.predict.scene_maps import NO_VALUE, STEP
from floemap.inference.predict.uncertainty import MEANINGS
from floemap.legend import Legend
from floemap.results.stage import write_json
from floemap.sentinel1.bands import BANDS
from floemap.version import __version__

_TASK = "semantic-segmentation"
#: Key, title, media type and roles of an asset, by file name or suffix.
_KINDS: Mapping[str, tuple[str, str, str, list[str]]] = {
    "classes.tif": ("classes", "Most probable class", pystac.MediaType.COG, ["data"]),
    "probabilities.tif": ("probabilities", "Probabilities of the classes", pystac.MediaType.COG, ["data"]),
    "uncertainty.tif": ("uncertainty", "Uncertainty of the class", pystac.MediaType.COG, ["data"]),
    "radar.tif": ("radar", "Radar image, false colour", pystac.MediaType.COG, ["visual"]),
    "chart.qgz": ("project", "Project for QGIS", "application/zip", ["metadata"]),
    "classes.qml": ("classes_style", "Classes: style for QGIS", pystac.MediaType.XML, ["metadata"]),
    "uncertainty.qml": ("uncertainty_style", "Uncertainty: style for QGIS", pystac.MediaType.XML, ["metadata"]),
    "chart.qml": ("style", "Style for QGIS", pystac.MediaType.XML, ["metadata"]),
    "review.gpkg": ("review", "Spots to review first", pystac.MediaType.GEOPACKAGE, ["metadata"]),
    ".tif": ("raster", "Raster", pystac.MediaType.COG, ["data"]),
    ".gpkg": ("chart", "Polygons", pystac.MediaType.GEOPACKAGE, ["data"]),
    ".geojson": ("geojson", "Polygons for web maps", pystac.MediaType.GEOJSON, ["data"]),
    ".shp": ("sigrid3", "Polygons, SIGRID-3", "application/vnd.shp", ["data"]),
    ".shx": ("sigrid3_index", "SIGRID-3: index of polygons", "application/vnd.shx", ["data"]),
    ".dbf": ("sigrid3_table", "SIGRID-3: table of codes", "application/vnd.dbf", ["data"]),
    ".prj": ("sigrid3_projection", "SIGRID-3: map projection", "text/plain", ["metadata"]),
    ".cpg": ("sigrid3_encoding", "SIGRID-3: encoding of text", "text/plain", ["metadata"]),
    ".xml": ("sigrid3_metadata", "SIGRID-3: metadata", pystac.MediaType.XML, ["metadata"]),
    ".qml": ("sigrid3_style", "SIGRID-3: style for QGIS", pystac.MediaType.XML, ["metadata"]),
    ".gml": ("s411", "Polygons and ice edge, S-411", "application/gml+xml; version=3.2", ["data"]),
    ".gml.xml": ("s411_metadata", "S-411: metadata", pystac.MediaType.XML, ["metadata"]),
    ".ICE": ("s411_catalogue", "S-411: catalogue", pystac.MediaType.XML, ["metadata"]),
    "grid.nc": ("grid", "Concentrations on the common polar grid, CF NetCDF", "application/netcdf", ["data"]),
    ".nc": ("netcdf", "Classes and uncertainty, CF NetCDF", "application/netcdf", ["data"]),
    ".png": ("quicklook", "Picture", pystac.MediaType.PNG, ["overview", "thumbnail"]),
}


def write_chart_item(
    path: Path,
    files: Mapping[str, Mapping[str, Any]],
    scene: PreparedScene,
    models: Sequence[ModelFile],
    facts: Mapping[str, Any],
    *,
    kept: bool,
) -> None:
    """Write the item beside the files of a chart.

    Parameters
    ----------
    path
        Path of item.json.
    files
        Files of the chart, in the same folder: `bytes` and `sha256` by name.
    scene
        The prepared product.
    models
        Models of the chart.
    facts
        Further properties.
    kept
        Whether the prepared product is kept; the item then has a link to its item.

    Raises
    ------
    ProductError
        If the item of the product is not a STAC item.
    OutputError
        If the file cannot be written.
    """
    try:
        item = pystac.Item.from_dict(scene.item)
    except (pystac.STACError, pystac.STACTypeError, *MISSHAPEN) as e:
        where = scene.raster.with_name("item.json")
        raise ProductError(f"is not a STAC item: {e!r}.", path=where, hint="Prepare the product again.") from e
    item.properties |= {"floemap:product": item.id, "processing:software": {"floemap": __version__}}
    item.properties |= {"processing:level": "L3"} | dict(facts)
    item.id = f"{item.id}_ice_chart"
    item.assets, item.links = {}, []
    origin = _beside(scene.raster.with_name("item.json"), path.parent.parent)
    if kept and origin is not None:
        item.add_link(pystac.Link(pystac.RelType.DERIVED_FROM, origin, pystac.MediaType.GEOJSON))
    for name, told in files.items():
        _add_file(item, name, told, models)
    _add_models(item, models)
    write_json(path, item.to_dict(include_self_link=False))


def _beside(path: Path, charts: Path) -> str | None:
    """Return the relative path of a file from a chart's folder, whose parent is `charts`; None if it leads further up.

    Charts are handed on together with their folder's neighbours at most. A longer or an absolute path would be useless
    to others and reveal folder and user names.
    """
    relative = os.path.relpath(path.absolute(), charts.absolute())
    if os.path.isabs(relative) or relative.startswith(os.path.join("..", "..")):  # noqa: PTH117, PTH118
        return None
    return (PurePosixPath("..") / Path(relative).as_posix()).as_posix()


def _add_file(item: pystac.Item, name: str, told: Mapping[str, Any], models: Sequence[ModelFile]) -> None:
    both = "".join(Path(name).suffixes[-2:])
    key, title, kind, roles = _KINDS.get(name) or _KINDS.get(both) or _KINDS[Path(name).suffix]
    if name.startswith("polaris_"):
        key, title = name.replace(".", "_"), f"Risk by POLARIS, advisory: {Path(name).stem}"
    asset = pystac.Asset(name, title=title, media_type=kind, roles=list(roles))
    item.add_asset(key, asset)
    tell = FileExtension.ext(asset, add_if_missing=True)
    tell.size, tell.checksum = told["bytes"], _multihash(told["sha256"])
    legend = models[0].legend
    bands: dict[str, list[tuple[str, str]]] = {
        "classes": [("ice_type", f"Class of the legend {legend.name}")],
        "probabilities": [(c.key, f"Probability of {c.title.lower()}") for c in legend.classes],
        "uncertainty": list(MEANINGS.items())[: 1 if len(models) == 1 else None],
    }
    if key in bands:
        step = 1.0 if key == "classes" else STEP
        RasterExtension.ext(asset, add_if_missing=True).bands = [_band(*words, step) for words in bands[key]]
    if key == "classes":
        ClassificationExtension.ext(asset, add_if_missing=True).classes = _classes(legend)


def _band(name: str, words: str, step: float) -> RasterBand:
    band = RasterBand.create(nodata=NO_VALUE, data_type=DataType.UINT8, unit="1", scale=step, offset=0)
    band.properties |= {"name": name, "description": words}
    return band


def _classes(legend: Legend) -> list[Classification]:
    found = [
        Classification.create(c.id, c.title, c.key, color_hint="{:02X}{:02X}{:02X}".format(*c.rgb))
        for c in legend.classes
    ]
    return [*found, Classification.create(NO_VALUE, "No class: land or no data", "no_class", nodata=True)]


def _multihash(hexadecimal: str) -> str:
    """Return a SHA-256 as the file extension requires it: 12 is the code of the hash, 20 its length in hexadecimal."""
    return f"1220{hexadecimal}"


def _taken(bands: BandSet) -> list[RasterBand]:
    """Describe the input bands of a model, by the names to which ``mlm:input`` refers.

    The MLM extension requires the list. STAC 1.1 allows ``bands`` among the properties only if an asset has bands, too;
    so the raster extension lists them in the asset of the model.
    """
    known = {b.name: b for b in BANDS}
    found = []
    for b in bands:
        band = RasterBand.create(unit=b.unit or None)
        band.properties |= {"name": b.name, "description": known[b.name].description if b.name in known else b.name}
        found.append(band)
    return found


def _add_models(item: pystac.Item, models: Sequence[ModelFile]) -> None:
    """Describe the models; of an ensemble, the common properties and the normalisation of the first model."""
    MLMExtension.add_to(item)
    first = models[0]
    bands, normal = first.about["bands"], first.about["normalisation"]
    together = hashlib.sha256("".join(m.sha256 for m in models).encode()).hexdigest()[:8]
    scaling = [
        {"type": "z-score", "mean": mean, "stddev": std}
        for mean, std in zip(normal["mean"], normal["std"], strict=True)
    ]
    shape = {"dim_order": ["batch", "channel", "height", "width"], "data_type": "float32"}
    item.properties |= {
        "mlm:name": first.name if len(models) == 1 else f"ensemble-of-{len(models)}-{together}",
        "mlm:architecture": ", ".join(sorted({str(m.about["model"]["name"]) for m in models})),
        "mlm:framework": "PyTorch",
        "mlm:tasks": [_TASK],
        "mlm:total_parameters": sum(int(m.about["model"]["parameters"]) for m in models),
        "mlm:input": [
            {
                "name": "calibrated bands",
                "bands": list(bands),
                "input": {"shape": [-1, len(bands), -1, -1], **shape},
                "value_scaling": scaling,
            }
        ],
        "mlm:output": [
            {
                "name": "ice classes",
                "tasks": [_TASK],
                "result": {"shape": [-1, len(first.legend), -1, -1], **shape},
                "classification:classes": [c.to_dict() for c in _classes(first.legend)[:-1]],
            }
        ],
    }
    for i, m in enumerate(models):
        words = f"trained on {m.learnt_from}"
        asset = pystac.Asset(
            m.path.name,
            title=f"Model {m.name}",
            description=f"{m.about['model']['name']}, {words}, by {m.about['software']}. Not beside the chart: its"
            " checksum identifies the file.",
            media_type="application/octet-stream",
            roles=["mlm:model"],
            extra_fields={"mlm:artifact_type": "safetensors.torch.save_file"},
        )
        item.add_asset("model" if len(models) == 1 else f"model_{i + 1}", asset)
        FileExtension.ext(asset).checksum = _multihash(m.sha256)
        RasterExtension.ext(asset, add_if_missing=True).bands = _taken(m.bands)
