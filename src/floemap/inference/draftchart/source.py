"""The source of a chart, a downloaded or a prepared product: its kind, its identity, its time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from floemap.cog import open_raster, read_geobox
from floemap.datasets.ai4arctic.files import open_scene_file
from floemap.datasets.ai4arctic.prepare import prepare_scene
from floemap.errors import MISSHAPEN, ProductError
from floemap.grid import map_crs_of
from floemap.progress import Progress
from floemap.results.stage import SCHEMA_VERSION, is_newer, read_json, sha256
from floemap.sentinel1.encoding import POLARISATIONS
from floemap.sentinel1.prepare import prepare, product_identity
from floemap.sentinel1.safe.reader import open_scene
from floemap.sentinel1.settings import PrepareSettings

#: Required entries of a prepared product's record, and of its entry `scene`.
_NEEDED = ("scene", "simulated", "software", "configuration")
_OF_SCENE = ("start", "stop", "pass_direction")


@dataclass(frozen=True)
class ChartSource:
    """A product, identified but not read.

    Attributes
    ----------
    path
        The product's folder or zip, the prepared folder, or a file of AI4Arctic.
    name
        Name of the product, and of the chart's folder.
    prepared
        Whether the product is a prepared one.
    start
        Start of the acquisition, with a time zone.
    inputs
        Identity of the product, for the record of the chart.
    """

    path: Path
    name: str
    prepared: bool
    start: datetime
    inputs: dict[str, Any]

    @property
    def of_ai4arctic(self) -> bool:
        """Whether the product is a file of AI4Arctic."""
        return not self.prepared and self.path.suffix == ".nc"


@dataclass(frozen=True)
class PreparedScene:
    """A prepared product and its description.

    Attributes
    ----------
    raster
        Path of product.tif.
    record, item
        Content of product.json and item.json.
    attribution
        Copyright notice of the data; "" if there is none.
    """

    raster: Path
    record: dict[str, Any]
    item: dict[str, Any]
    attribution: str

    @property
    def start(self) -> datetime:
        """Start of the acquisition."""
        return datetime.fromisoformat(self.record["scene"]["start"])

    @property
    def stop(self) -> datetime:
        """End of the acquisition."""
        return datetime.fromisoformat(self.record["scene"]["stop"])

    @property
    def simulated(self) -> bool:
        """Whether the product is simulated."""
        return bool(self.record["simulated"])


def find_product(product: str | Path) -> ChartSource:
    """Identify a product.

    Parameters
    ----------
    product
        A Sentinel-1 product's folder or zip, a file of AI4Arctic, or a folder made by ``floemap prepare``, or its
        product.tif.

    Raises
    ------
    ProductError
        If the product cannot be read or is of another kind.
    FloemapError
        If files of a prepared product are missing or damaged.
    """
    path = Path(product)
    path = path.parent if path.name == "product.tif" else path
    if (path / "product.tif").is_file():
        scene = _open_prepared(path)
        hashes = {name: sha256(path / name) for name in ("product.tif", "product.json")}
        return ChartSource(path, path.absolute().name, True, scene.start, {"product": hashes})
    if path.suffix == ".nc":
        with open_scene_file(path) as file:
            return ChartSource(path, file.scene.name, False, file.start, {"product": {path.name: sha256(path)}})
    opened = open_scene(path, POLARISATIONS)
    identity = product_identity(opened, verified=True)
    return ChartSource(path, opened.name, False, opened.start, {"product": identity})


def inputs_of(source: ChartSource, settings: PrepareSettings) -> dict[str, Any]:
    """Return the identity of a product, with that of its pixel files if they will not be verified."""
    if source.prepared or source.of_ai4arctic or settings.verify:
        return source.inputs
    return {"product": product_identity(open_scene(source.path, POLARISATIONS), verified=False)}


def prepare_source(
    source: ChartSource, folder: Path, settings: PrepareSettings, *, overwrite: bool, progress: Progress
) -> PreparedScene:
    """Prepare a product into a folder within `folder`, unless it is a prepared one.

    Raises
    ------
    FloemapError
        If the product cannot be prepared, see :func:`floemap.sentinel1.prepare.prepare`, or would not be on a map.
    """
    if source.prepared:
        return _open_prepared(source.path)
    if source.of_ai4arctic:
        made = prepare_scene(source.path, folder, settings, overwrite=overwrite, progress=progress)
    else:
        made = prepare(source.path, folder, settings, overwrite=overwrite, quicklook=False, progress=progress)
    return _open_prepared(made.folder)


def _open_prepared(folder: Path) -> PreparedScene:
    record, item = read_json(folder / "product.json"), read_json(folder / "item.json")
    with open_raster(folder / "product.tif", ProductError, "Prepare it again.") as d:
        attribution = d.tags().get("attribution", "")
    scene = PreparedScene(folder / "product.tif", record, item, attribution)
    map_crs_of(read_geobox(scene.raster), scene.raster)  # a draft chart is a map
    if is_newer(record):
        raise ProductError(
            f"has schema version {record['schema_version']}; this floemap reads versions up to {SCHEMA_VERSION}.",
            path=folder / "product.json",
            hint="Update floemap, or prepare the product again.",
        )
    of_scene = record["scene"] if isinstance(record.get("scene"), dict) else {}
    missing = [key for key in _NEEDED if key not in record] + [key for key in _OF_SCENE if key not in of_scene]
    if missing:
        raise ProductError(f"lacks {', '.join(missing)}.", path=folder / "product.json", hint="Prepare it again.")
    try:
        if scene.start.tzinfo is None or scene.stop.tzinfo is None or not isinstance(scene.simulated, bool):
            raise ValueError("the times have no time zone")
    except MISSHAPEN as e:
        message = f"has no valid times of the acquisition: {e!r}."
        raise ProductError(message, path=folder / "product.json", hint="Prepare it again.") from e
    return scene
