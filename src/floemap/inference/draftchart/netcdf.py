"""The chart as NetCDF by the CF conventions: classes as flags, with probability and uncertainty, on the product's grid.

Only types that every version of the conventions has are used: signed bytes, so shares are whole percents.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from floemap.inference.draftchart.cf_files import DIMENSIONS, Variable, write_cf
from floemap.inference.draftchart.fractions import OF_TYPE, TOTAL, confidence_of, fractions_of
from floemap.inference.predict.scene_maps import STEP, SceneMaps
from floemap.inference.predict.uncertainty import MEANINGS
from floemap.legend import Legend

#: Flag of land, used if a land mask was given, and the no-data value.
LAND_FLAG, NO_FLAG = 126, -1


def write_netcdf(
    path: Path,
    maps: SceneMaps,
    *,
    start: datetime,
    stop: datetime,
    attributes: Mapping[str, str],
    probabilities: bool = False,
    concentrations: str | None = None,
) -> None:
    """Write classes, their probability and uncertainty, and concentrations, whole or not at all.

    Parameters
    ----------
    path
        Path of the file.
    maps
        Classes, probabilities and uncertainty of each pixel.
    start, stop
        Start and end of the acquisition, with a time zone.
    attributes
        Global attributes: title, source, history and others.
    probabilities
        Also write the probabilities of all classes, which makes the file several times as large.
    concentrations
        What the concentrations are estimated from, in words; None to write none.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    classes = _classes(maps)
    measures = {"class_probability": _percent(confidence_of(maps), "probability of the class", "qualityInformation")}
    measures |= {n: _percent(v, MEANINGS[n], "qualityInformation") for n, v in maps.uncertainty.items()}
    classes[2]["ancillary_variables"] = " ".join(measures)
    variables = {"ice_class": classes} | measures
    if concentrations is not None:
        told = fraction_attributes(maps.legend, concentrations)
        for name, values in fractions_of(maps).items():
            dims, stored, own = _percent(values, told[name]["long_name"], "modelResult")
            variables[name] = (dims, stored, own | told[name])
    if probabilities:
        for c, values in zip(maps.legend.classes, maps.probabilities, strict=True):
            words = f"probability of {c.title.lower()}"
            variables[f"probability_{c.key}"] = _percent(values, words, "modelResult")
    write_cf(path, variables, maps.geobox, start=start, stop=stop, attributes=attributes)


def fraction_attributes(legend: Legend, concentrations: str) -> dict[str, dict[str, str]]:
    """Return the attributes of concentrations by name, for :func:`floemap.inference.draftchart.fractions.fractions_of`.

    A fraction of one type has the standard name of sea ice, too, as such variables have in CMIP6.
    """
    words = {TOTAL: "total concentration of ice"}
    words |= {OF_TYPE + c.key: f"concentration of {c.title.lower()}" for c in legend.classes if c.id != legend.water}
    return {
        name: {"standard_name": "sea_ice_area_fraction", "long_name": told, "comment": f"{concentrations}."}
        for name, told in words.items()
    }


def _classes(maps: SceneMaps) -> Variable:
    flags, meanings = [c.id for c in maps.legend.classes], [c.key for c in maps.legend.classes]
    table = np.full(256, NO_FLAG, np.int8)
    table[flags] = flags
    stored = _look_up(maps.classes, table)
    if maps.land is not None:
        stored[maps.land] = LAND_FLAG
        flags, meanings = [*flags, LAND_FLAG], [*meanings, "land"]
    attributes = {
        "standard_name": "sea_ice_classification",
        "long_name": f"class of the dominant ice type, legend {maps.legend.name}",
        "flag_values": np.array(flags, np.int8),
        "flag_meanings": " ".join(meanings),
        "_FillValue": np.int8(NO_FLAG),
        "coverage_content_type": "thematicClassification",
    }
    return DIMENSIONS, stored[None], attributes


def _percent(stored: NDArray[np.uint8], words: str, kind: str) -> Variable:
    """Return stored shares in percent; `kind` is one of ACDD's kinds of content."""
    table = np.full(256, NO_FLAG, np.int8)
    steps = np.arange(round(1 / STEP) + 1)
    table[steps] = np.rint(100 * STEP * steps)
    attributes: dict[str, Any] = {
        "long_name": words[0].lower() + words[1:],
        "units": "%",
        "valid_range": np.array([0, 100], np.int8),
        "_FillValue": np.int8(NO_FLAG),
        "coverage_content_type": kind,
    }
    return DIMENSIONS, _look_up(stored, table)[None], attributes


def _look_up(stored: NDArray[np.uint8], table: NDArray[np.int8]) -> NDArray[np.int8]:
    """Return table[stored]; numpy would need eight bytes a pixel for the index alone."""
    return np.asarray(cv2.LUT(stored, table.view(np.uint8))).view(np.int8)
