"""How a scene becomes a draft chart."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, field_validator, model_validator

from floemap.config import Settings
from floemap.errors import ConfigError
from floemap.icechart.polaris import ship_class
from floemap.icechart.write.s411_axes import Axes
from floemap.sentinel1.settings import PrepareSettings

#: Outputs that can be made of a scene, each one or more files.
Output = Literal[
    "classes",
    "probabilities",
    "uncertainty",
    "chart",
    "review",
    "sigrid3",
    "s411",
    "geojson",
    "netcdf",
    "grid",
    "quicklook",
    "radar",
    "project",
    "polaris",
]
OUTPUTS: tuple[Output, ...] = get_args(Output)


#: What the polygons of a chart are drawn for.
Drawing = Literal["types", "mixtures"]


class ChartSettings(Settings):
    """How a product becomes a draft chart (``floemap chart``)."""

    only: tuple[Output, ...] = Field(default=OUTPUTS, min_length=1)
    """Outputs to write; item.json and chart.json are always written."""

    min_area_km2: float = Field(default=10.0, ge=0)
    """Smallest area of a polygon, square kilometres. Smaller polygons are merged into their neighbours."""

    tolerance_m: float | None = Field(default=None, ge=0)
    """Largest shift of a border when it is simplified, metres. Default: two pixels."""

    smoothing_m: float = Field(default=0.0, ge=0)
    """Width of the Gaussian filter that smooths classes before polygons are drawn, metres. 0: no smoothing."""

    polygons: Drawing = "types"
    """What polygons are drawn for: `types`, so that each has one prevailing ice type, or `mixtures`, so that an area of
    several types is one polygon with their shares."""

    eggs: bool = True
    """Estimate the total concentration and up to three ice types of each polygon. Without, the concentration of ice is
    unknown (99) and each polygon has one type."""

    netcdf_probabilities: bool = False
    """Also write the probabilities of all classes into the NetCDF file."""

    cell_m: float = Field(default=1000.0, ge=100, le=100_000)
    """Size of the cells of the common polar grid in grid.nc, metres."""

    ice_class: tuple[str, ...] = ()
    """Ice classes of ships, PC1 to PC7, IA_super, IA, IB, IC or none, for which a layer with the risk by POLARIS is
    written."""

    service: str = Field(default="floemap", pattern="^[A-Za-z0-9]+$")
    """Name of the ice service in the names of the SIGRID-3 files, and producer code of S-411."""

    region: str = Field(default="s1", pattern="^[A-Za-z0-9]+$")
    """Name of the region in the names of the files of SIGRID-3 and S-411."""

    s411_axes: Axes = "latlon"
    """Order of coordinates in S-411: `latlon`, as in files of ice services today and in S-100, or `lonlat`, as in the
    text of edition 1.1.0. The name of the CRS in the file says which one it is."""

    s411_lake: bool = False
    """Write the ice in S-411 as lake ice, for charts of lakes."""

    contact: str | None = None
    """Person or office responsible for the chart, in its metadata."""

    prepare: PrepareSettings = PrepareSettings()
    """Preparation of products that are not prepared yet. The default pixel size is the model's."""

    @field_validator("ice_class")
    @classmethod
    def _are_classes(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return tuple(sorted({ship_class(value).key for value in values}))
        except ConfigError as e:
            raise ValueError(f"{e.message} {e.hint}") from None

    @model_validator(mode="after")
    def _with_class(self) -> ChartSettings:
        if ("polaris" in self.only) != bool(self.ice_class) and self.only != OUTPUTS:
            raise ValueError("polaris in only and an ice class need each other: give both, or neither")
        return self

    @property
    def outputs(self) -> tuple[Output, ...]:
        """Outputs to write, in their order: of a layer of risk only with an ice class."""
        return tuple(o for o in OUTPUTS if o in self.only and (o != "polaris" or self.ice_class))

    @model_validator(mode="after")
    def _with_shares(self) -> ChartSettings:
        if self.polygons == "mixtures" and not self.eggs:
            raise ValueError("polygons of mixtures need the shares of types: set eggs to true, or polygons to types")
        if self.polygons == "mixtures" and self.smoothing_m:
            raise ValueError("smoothing_m smooths the classes, and polygons of mixtures are not drawn from classes")
        return self
