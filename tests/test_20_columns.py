"""Names of columns: the standard's, old and new, and the Canadian Ice Service's give the same chart."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from chart_maker import COLUMNS, FOUR, grid, ice, other, squares, write_chart

from floemap.errors import ChartError
from floemap.icechart.land import land_on
from floemap.icechart.read.columns import CODE_COLUMNS, LISTS
from floemap.icechart.read.sigrid3 import Chart, read_chart

#: One to three types, a trace of thicker ice, ice besides the three, water, land.
ROWS: tuple[dict[str, Any], ...] = (
    ice("92", SA="95", FA="06"),
    ice("90", CA="60", SA="96", FA="06", CB="30", SB="88", FB="01"),
    ice("90", CA="40", SA="97", FA="06", CB="30", SB="86", FB="03", CC="20", SC="81", FC="22"),
    ice("90", CA="40", SA="97", CB="30", SB="86", CC="20", SC="81", CN="98"),
    ice("90", CA="40", SA="97", CB="20", SB="86", CD="81"),
    ice("91", SA="86", CN="95"),
    other("W") | {"CT": "98"},
    other("L"),
)


def all_codes(chart: Chart) -> dict[str, list[int]]:
    return {c: chart.codes(c).tolist() for c in CODE_COLUMNS}


def catalogue(row: dict[str, Any], *, blank: str = " ") -> dict[str, Any]:
    """The same row in columns of the Ice Objects Catalogue (Tables A-1, A-2), unused places filled with blanks."""

    def joined(*names: str) -> str:
        return "".join(2 * blank if row[n] in ("-9", None) else row[n] for n in names)

    return {
        "AREA": 1.0,
        "POLY_TYPE": row["POLY_TYPE"],
        "ICEACT": None if row["CT"] == "-9" else row["CT"],
        "ICEAPC": joined("CA", "CB", "CC"),
        "ICESOD": joined("CN", "SA", "SB", "SC", "CD"),
        "ICEFLZ": joined("FA", "FB", "FC"),
    }


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Chart:
    return read_chart(write_chart(tmp_path_factory.mktemp("usual") / "c.gpkg", ROWS))


@pytest.mark.parametrize("suffix", [".gpkg", ".shp", ".geojson"])
def test_the_ice_objects_catalogue_says_the_same(tmp_path: Path, usual: Chart, suffix: str) -> None:
    """In a GeoPackage blanks before a list stay; shapefiles come without them. What they then say is still the same."""
    chart = read_chart(write_chart(tmp_path / f"c{suffix}", [catalogue(row) for row in ROWS]))
    assert all_codes(chart) == all_codes(usual)
    assert chart.polygons["poly_type"].tolist() == usual.polygons["poly_type"].tolist()


def test_old_and_new_columns_may_be_mixed(tmp_path: Path, usual: Chart) -> None:
    """As long as they are not of the same row of Table A-1; there, what tells one type apart goes first."""
    mixed = [{"ICEACT": catalogue(r)["ICEACT"]} | {c: r[c] for c in COLUMNS if c != "CT"} for r in ROWS]
    assert all_codes(read_chart(write_chart(tmp_path / "a.gpkg", mixed))) == all_codes(usual)
    stages = [catalogue(r) | {c: r[c] for c in ("CT", "CA", "CB", "CC")} for r in ROWS]
    assert all_codes(read_chart(write_chart(tmp_path / "b.gpkg", stages))) == all_codes(usual)


@pytest.mark.parametrize("kind", [int, float])
def test_lists_as_numbers_have_lost_a_zero(tmp_path: Path, kind: type) -> None:
    row = {"POLY_TYPE": "I", "ICEACT": kind(92), "ICEAPC": kind(6040), "ICESOD": kind(9586), "ICEFLZ": kind(506)}
    chart = read_chart(write_chart(tmp_path / "c.gpkg", [row]))
    names = ("ca", "cb", "sa", "sb", "fa", "fb")
    assert [int(chart.codes(c)[0]) for c in names] == [60, 40, 95, 86, 5, 6]


@pytest.mark.parametrize("value", ["95,86", "9", "958", "XX", "95868182831"])
def test_a_list_that_is_none_is_refused(tmp_path: Path, value: str) -> None:
    row = {"POLY_TYPE": "I", "ICEACT": "92", "ICEAPC": "6040", "ICESOD": value}
    with pytest.raises(ChartError, match=r"polygon 1: (SA|SB|SC|CN|CD) is"):
        read_chart(write_chart(tmp_path / "c.gpkg", [row]))


@pytest.mark.parametrize("suffix", [".shp", ".gpkg"])
def test_the_canadian_names(tmp_path: Path, usual: Chart, suffix: str) -> None:
    name = {f"SGD_{k}": f"SGD_{k}"[:10] if suffix == ".shp" else f"SGD_{k}" for k in ROWS[0]}
    rows = [{name[f"SGD_{k}"]: v for k, v in row.items()} | {"E_CT": "10", "E_SA": "7.", "E_CA": "4"} for row in ROWS]
    chart = read_chart(write_chart(tmp_path / f"c{suffix}", rows))
    assert all_codes(chart) == all_codes(usual)


def test_the_catalogues_names_with_the_canadian_prefix(tmp_path: Path, usual: Chart) -> None:
    rows = [{f"SGD_{k}": v for k, v in catalogue(row).items()} for row in ROWS]
    assert all_codes(read_chart(write_chart(tmp_path / "c.gpkg", rows))) == all_codes(usual)


def test_plain_names_go_before_others(tmp_path: Path, usual: Chart) -> None:
    rows = [row | {f"SGD_{k}": "99" for k in ("CT", "SA")} | {"ICEACT": "10", "ICESOD": "8181"} for row in ROWS]
    assert all_codes(read_chart(write_chart(tmp_path / "c.gpkg", rows))) == all_codes(usual)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"E_CT": "10", "E_SA": "7.", "POLY_TYPE": "I"}, "lacks CT, SA.*'E_CT' .egg codes"),
        ({"ICECODE": "CT92CA", "POLY_TYPE": "I"}, "lacks CT, SA.*'ICECODE'"),
        (
            {"ICE_TYPE": "Very Close Drift Ice"},
            "lacks CT, SA, POLY_TYPE.*'ICE_TYPE' .classes of concentration in",
        ),
        ({"ICEACT": "92", "POLY_TYPE": "I"}, "lacks SA"),
        ({"a\x1b[2Jb": "92"}, r"it has 'a\\x1b\[2Jb'"),
    ],
)
def test_other_codes_are_named(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    with pytest.raises(ChartError, match=words):
        read_chart(write_chart(tmp_path / "c.gpkg", [row]))


def test_twins_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ChartError, match="two columns 'ICESOD' and 'IceSod'"):
        read_chart(write_chart(tmp_path / "c.geojson", [catalogue(r) | {"IceSod": "95"} for r in ROWS]))


@pytest.mark.parametrize("suffix", [".shp", ".gpkg", ".geojson", ".zip"])
@pytest.mark.parametrize("column", ["POLY_TYPE", "poly_type", "SGD_POLY_TYPE", "PolyType"])
@pytest.mark.parametrize("value", ["L", "l", " L "])
def test_land_is_read_by_the_rule_of_charts(tmp_path: Path, suffix: str, column: str, value: str) -> None:
    """Whatever the format, the name, and the spelling."""
    if suffix in (".shp", ".zip"):
        column = column[:10]
    path = write_chart(tmp_path / f"c{suffix}", [{column: t} for t in ("I", value, "W", value)])
    land = land_on(path, grid())
    assert land[32, 32::64].tolist() == [False, True, False, True]


def test_a_mask_of_no_known_type_is_refused_by_number(tmp_path: Path) -> None:
    with pytest.raises(ChartError, match="polygon 2: POLY_TYPE is 'Land'"):
        land_on(write_chart(tmp_path / "c.gpkg", [other("I"), other("Land")], squares(2)), grid())
    assert len(FOUR) == 4


@pytest.mark.parametrize("text", ["9-", " 9- ", "-", "--", "N/A", "null", "<Null>", "-9.0", "NaN", "none"])
def test_text_for_no_code(tmp_path: Path, text: str) -> None:
    chart = read_chart(write_chart(tmp_path / "c.gpkg", [ice("92", SA="95", CA=text, CN=text) | {"POLY_TYPE": text}]))
    assert [int(chart.codes(c)[0]) for c in ("ct", "sa", "ca", "cn")] == [92, 95, -9, -9]
    assert chart.polygons["poly_type"].tolist() == [""]


#: No codes. Of a date with a time a shapefile makes text.
WRONG = (True, False, 90.5, datetime.date(2018, 1, 16), datetime.datetime(2018, 1, 16, 7, 54))


@pytest.mark.parametrize(
    ("suffix", "value"),
    [(suffix, value) for suffix in (".gpkg", ".fgb", ".geojson") for value in WRONG] + [(".shp", v) for v in WRONG[:4]],
    ids=str,
)
def test_values_of_other_types_are_no_codes(tmp_path: Path, suffix: str, value: Any) -> None:
    """Truth values, fractions and dates are refused in every column of codes, whatever number a format stores."""
    for name in ("CT", "SA", "CA", "CN", "POLY_TYPE", *(name.upper() for name in LISTS)):
        listed = LISTS.get(name.lower(), ())
        row = {k: v for k, v in ice(SA="95").items() if k.lower() not in listed}
        chart = write_chart(tmp_path / f"{name}{suffix}", [row | {name: value}])
        with pytest.raises(ChartError, match=r"polygon [01]: [A-Z_]+ is ") as e:
            read_chart(chart)
        assert "np." not in str(e.value)
