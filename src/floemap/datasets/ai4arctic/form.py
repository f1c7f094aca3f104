"""The form of AI4Arctic's files: variables, dimensions, types, attributes, and the published scaling.

Two kinds of NetCDF-4 files hold a scene. *Raw* files (ASID-v3, some 2 GB) have 40 m pixels in decibels with NaN where
there is nothing, and the ice chart as ids of polygons with a table of their SIGRID-3 codes. *Ready-to-train* files
(some 420 MB) were made from them: 80 m pixels as standard scores with 0 where there is nothing, and three charts of
classes with 255 where there is nothing. Neither has coordinates or a CRS: rows are lines of the radar image, columns
its samples, and 21 x 21 tie points give latitude and longitude.

J. Buus-Hinkler, T. Wulf, A. Stokholm, A. Korosov, R. Saldo, L. T. Pedersen et al., AI4Arctic Sea Ice Challenge Dataset,
Technical University of Denmark, 2022, DOI 10.11583/DTU.c.6244065, CC-BY 4.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from types import EllipsisType, MappingProxyType
from typing import Any, Literal

Kind = Literal["ready", "raw"]

#: DOI of the collection.
DOI = "10.11583/DTU.c.6244065"

LINES, SAMPLES = "sar_lines", "sar_samples"
#: Dimensions of the grid of 2 km that AMSR2 and ERA5 share.
COARSE = ("2km_grid_lines", "2km_grid_samples")
#: Dimensions of the tie points in ready-to-train files. The first axis runs with the lines, whatever its name.
TIE_POINTS_READY = ("sar_sample_2dgrid_points", "sar_line_2dgrid_points")
#: Dimension of the tie points in raw files, where they are one list, line by line.
TIE_POINTS_RAW = "sar_grid_points"
#: Number of tie points along each side.
TIE_POINTS = 21
POLYGON_CODES, POLYGONS = "polygon_codes", "polygon_icechart"
#: Rows of polygon_codes below the header; -9 is an empty field.
CODES_HEADER = "poly_id;CT;CA;SA;FA;CB;SB;FB;CC;SC;FC;CN;CD;CF;POLY_TYPE"

#: Charts of ready-to-train files, with their attribute "polygon".
CHARTS: Mapping[str, str] = MappingProxyType(
    {"SIC": "Sea Ice Concentration [%]", "SOD": "Stage of Development", "FLOE": "Floe Size"}
)
#: Value of charts where there is no class, and of scaled variables where there is no value.
NO_CLASS, NO_VALUE = 255, 0
#: Pixel spacing of raw and ready-to-train files, metres.
SPACING_M: Mapping[Kind, float] = MappingProxyType({"raw": 40.0, "ready": 80.0})
COARSE_M = 2000.0
#: Settings of the preparation that take effect on the dataset's files, of those of products as delivered.
PREPARE_SETTINGS = ("resolution_m", "crs", "grid")

#: Frequencies of AMSR2, GHz.
FREQUENCIES = ("6.9", "7.3", "10.7", "18.7", "23.8", "36.5", "89.0")


def _zones() -> tuple[tuple[float, float], ...]:
    """Return the range of distances to land, km, of each zone from 1 on."""
    edges = [0, 0.5, *range(1, 20), *range(20, 50, 5), *range(50, 100, 10), *range(100, 301, 25), float("inf")]
    return tuple((float(a), float(b)) for a, b in pairwise(edges))


#: Zones of the distance map: zone k, from 1, has distances to land in ZONES_KM[k - 1]; zone 0 is land.
ZONES_KM = _zones()
ZONES_IN_WORDS = "dist_id; dist_range_km\n0; land\n" + "\n".join(
    f"{k}; {low:g} -> {high:g}" for k, (low, high) in enumerate(ZONES_KM, 1)
)


@dataclass(frozen=True)
class Variable:
    """A variable of a file.

    Attributes
    ----------
    name, dimensions, dtype
        As NetCDF has them; "str" for text.
    attributes
        Attributes in the order of the files; `...` where the value is that of the scene.
    """

    name: str
    dimensions: tuple[str, ...]
    dtype: str
    attributes: Mapping[str, Any | EllipsisType] = field(default_factory=dict)


_SAR = (LINES, SAMPLES)


def _band(name: str, polarisation: str, kind: Kind) -> Variable:
    about = {"polarisation": polarisation, "upstream_id": ..., "description": "Sigma0 in dB", "min": ..., "max": ...}
    return Variable(name, _SAR, "float32", about | _fill(kind))


def _fill(kind: Kind) -> dict[str, Any]:
    return {"variable_fill_value": NO_VALUE} if kind == "ready" else {}


_DISTANCE = Variable(
    "distance_map",
    _SAR,
    "float32",
    {
        "long_name": "Distance to land zones numbered with ids ranging from 0 to 41",
        "zonal_range_description": ZONES_IN_WORDS,
    },
)
_SWATHS: dict[str, Any] = {"AMSR2_swaths": ..., "AMSR2_S1_delays": ...}
_WEATHER = {
    "u10m_rotated": ("m/s", "10m u-component of wind rotated to account for S-1 flight direction"),
    "v10m_rotated": ("m/s", "10m v-component of wind rotated to account for S-1 flight direction"),
    "t2m": ("K", "2m air temperature"),
    "skt": ("K", "skin temperature"),
    "tcwv": ("kg/m2", "total column water vapour"),
    "tclw": ("kg/m2", "total cloud liquid water"),
}
#: Names of the brightness temperatures and of the weather, in the files' order.
AMSR2 = tuple(f"btemp_{ghz.replace('.', '_')}{p}" for ghz in FREQUENCIES for p in "hv")
ERA5 = tuple(_WEATHER)
#: Names that stand for several bands.
BAND_GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType({"amsr2": AMSR2, "era5": ERA5})


def _amsr2(dtype: str) -> tuple[Variable, ...]:
    words = {"h": "horizontal", "v": "vertical"}
    found = []
    for name in AMSR2:
        ghz, p = name.removeprefix("btemp_")[:-1].replace("_", "."), name[-1]
        about = f"Brightness temperature in K at {ghz}GHz. Polarization: {words[p]}."
        found.append(Variable(name, COARSE, dtype, _SWATHS | {"min": ..., "max": ..., "description": about}))
    return tuple(found)


def _era5(dtype: str) -> tuple[Variable, ...]:
    return tuple(
        Variable(name, COARSE, dtype, {"units": units, "long_name": f"ERA5 {words}"})
        for name, (units, words) in _WEATHER.items()
    )


#: Variables of a ready-to-train file, in the order of the files.
READY: tuple[Variable, ...] = (
    *(Variable(c, _SAR, "uint8", {"polygon": words, "chart_fill_value": NO_CLASS}) for c, words in CHARTS.items()),
    *(Variable(f"sar_grid2d_{axis}", TIE_POINTS_READY, "float64") for axis in ("latitude", "longitude")),
    _band("nersc_sar_primary", "HH", "ready"),
    _band("nersc_sar_secondary", "HV", "ready"),
    Variable("sar_incidenceangle", _SAR, "float32", _fill("ready")),
    _DISTANCE,
    *_amsr2("float32"),
    *_era5("float32"),
)
#: Variables of a raw file, in the order of the files; the table of codes first.
RAW: tuple[Variable, ...] = (
    Variable(POLYGON_CODES, (POLYGON_CODES,), "str", {"icechart_id": ...}),
    _band("nersc_sar_primary", "HH", "raw"),
    _band("nersc_sar_secondary", "HV", "raw"),
    Variable(
        POLYGONS,
        _SAR,
        "float32",
        {
            "description": "Polygon icechart - the polygon ids are gridded in native Sentinel-1 SAR geometry- and "
            "resolution",
            "icechart_id": ...,
        },
    ),
    _DISTANCE,
    *(
        Variable(f"sar_grid_{name}", (TIE_POINTS_RAW,), "float64")
        for name in ("line", "sample", "latitude", "longitude", "incidenceangle", "height")
    ),
    *_amsr2("float64"),
    Variable("amsr2_swath_map", COARSE, "uint8"),
    Variable("swath_segmentation", COARSE, "uint8", dict(_SWATHS)),
    *_era5("float64"),
)
#: Variables of a file of ASID-v2, the dataset of 2020, that its chart is read from. There, 0 is no polygon.
ASID2: tuple[Variable, ...] = (
    Variable(POLYGON_CODES, (POLYGON_CODES,), "str"),
    Variable(POLYGONS, _SAR, "uint8"),
    *(Variable(f"sar_grid_{n}", (TIE_POINTS_RAW,), "float64") for n in ("line", "sample", "latitude", "longitude")),
)
VARIABLES: Mapping[Kind, tuple[Variable, ...]] = MappingProxyType({"ready": READY, "raw": RAW})
#: Global attributes; `...` where the value is that of the scene.
GLOBALS: Mapping[Kind, Mapping[str, Any | EllipsisType]] = MappingProxyType(
    {
        "ready": {"scene_id": ..., "original_id": ..., "ice_service": ..., "flip": ..., "pixel_spacing": ...},
        "raw": {
            "title": "Training data file from AI4Arctic_CCN challenge dataset\n"
            "Input: Sentinel-1 SAR dual HH-HV / AMSR2 PMR / ERA5 NWP /Land distance.\n"
            "Label: Sea-ice information (gridded polygon ids with accomanying SIGRID3 coding.",
            "geometric_info": "All variables are gridded to match SAR bands geographically.\n"
            "Sea-ice charts and distance maps are gridded in native EW-GRDM-resolution (approx. 40 m)\n"
            "AMSR2 and NWP are gridded 2 km spatial resolution.\n"
            "The ERA5 u- and v components are rotated to comply with the satellite flight direction as reference.",
            "sar_denoise_by_nersc_documentation": "Thermal Denoising of Cross-Polarized Sentinel-1 Data in "
            "Interferometric and Extra Wide Swath Modes, DOI: 10.1109/TGRS.2021.3131036\n"
            "Available at: https://ieeexplore.ieee.org/document/9627699",
        },
    }
)


@dataclass(frozen=True)
class Scaling:
    """Scaling of a variable in ready-to-train files: they hold (value - mean) / std, and 0 where there is no value."""

    mean: float
    std: float


def _scaling(text: str) -> dict[str, Scaling]:
    rows = [line.split() for line in text.split("\n") if line.strip()]
    return {name: Scaling(float(mean), float(std)) for name, mean, std in rows}


#: Published means and standard deviations of all scenes, by variable (misc/global_meanstd.npy of the challenge).
SCALING: Mapping[str, Scaling] = MappingProxyType(
    _scaling("""
nersc_sar_primary -14.5082551552228 5.6597459193818676
nersc_sar_secondary -24.701205147144236 4.746759305258515
sar_incidenceangle 33.99801788456536 8.322267212079046
distance_map 23.627669500714102 14.99018630794473
btemp_6_9h 148.8469796145295 61.64846862537627
btemp_6_9v 203.51944545494723 38.66643206594044
btemp_7_3h 149.89896504342093 61.67544463178433
btemp_7_3v 204.20534015176978 38.66622047733582
btemp_10_7h 153.89169240998876 60.875249835766844
btemp_10_7v 208.90408657387925 36.24495931413019
btemp_18_7h 165.6802621430742 52.617873035841676
btemp_18_7v 218.5868342822609 28.060389755926906
btemp_23_8h 182.20893715257156 42.88716195392868
btemp_23_8v 226.39646658494573 22.117582324875166
btemp_36_5h 185.19472368457747 38.6444384529263
btemp_36_5v 228.20590185866286 17.652645265307164
btemp_89_0h 212.53745842027274 22.584971395547413
btemp_89_0v 241.25747874607808 16.31096214404262
u10m_rotated 0.6747986162545088 4.749646758314658
v10m_rotated 0.6075565949388854 5.196104947581429
t2m 268.6265490976146 9.469170769562306
skt 268.91015184833424 10.305256438427369
tcwv 7.747741728107202 5.268575011079001
tclw 0.041245511364735726 0.07112806794202754
""")
)
