"""The entrance: errors, legends, settings, grids, stage folders."""

from __future__ import annotations

import codecs
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyproj
import pytest
from affine import Affine
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from odc.geo.geobox import GeoBox

from floemap.cartography import furnish, where_is
from floemap.errors import ChartError, ConfigError, FloemapError, GridError, OutputError, known_names
from floemap.grid import brief, check_same_grid, crs_of
from floemap.inference.draftchart.settings import ChartSettings
from floemap.legend import AI4ARCTIC, EXTREMEEARTH, IGNORE, LEGENDS, SIX_CLASSES, STAGE_RGB, STAGES, Legend, legend
from floemap.results.folders import made_of, stage_folder
from floemap.results.stage import Stage, provenance, read_json, write_json
from floemap.sentinel1.settings import PrepareSettings

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def test_error_names_file_value_and_way_out() -> None:
    error = ChartError("holds the code 12.", path="a.shp", hint="Use --unmapped ignore.")
    assert str(error) == "a.shp: holds the code 12. Use --unmapped ignore."
    assert isinstance(error, FloemapError)


@pytest.mark.parametrize("table", LEGENDS.values(), ids=lambda t: t.name)
def test_legends_are_consistent(table: Legend) -> None:
    codes = table.stage_to_class
    assert set(codes.values()) <= {*range(len(table)), IGNORE}
    assert 0 <= table.water < len(table)
    assert len({c.rgb for c in table.classes}) == len(table)
    assert codes[98] == IGNORE, "glacier ice is never an ice type"


def test_six_classes_follow_the_codes() -> None:
    expected = {81: 0, 82: 1, 83: 2, 84: 2, 85: 2, 86: 3, 87: 3, 88: 3, 89: 3, 91: 3, 93: 3, 95: 4, 96: 4, 97: 4}
    assert {k: v for k, v in SIX_CLASSES.stage_to_class.items() if v != IGNORE} == expected
    assert SIX_CLASSES.stage_to_class[99] == IGNORE
    # The dataset's own rule: stage 99 and three stray codes are water there.
    extra = {k: v for k, v in EXTREMEEARTH.stage_to_class.items() if k not in SIX_CLASSES.stage_to_class or k == 99}
    assert extra == dict.fromkeys((99, 13, 45, 78), EXTREMEEARTH.water)
    assert AI4ARCTIC.stage_to_class[86] == 4, "first-year ice without further words counts as thick"


def test_every_stage_has_words_and_a_colour() -> None:
    assert set(STAGES) == set(STAGE_RGB)


def test_legend_refuses_a_code_in_two_classes() -> None:
    classes = SIX_CLASSES.classes
    with pytest.raises(ConfigError, match="81"):
        Legend("x", "x", classes, 5, frozenset({81}))


def test_unknown_legend_is_named_with_the_known() -> None:
    with pytest.raises(ConfigError, match="ice_water"):
        legend("nonsense")


def test_shipped_settings_are_the_defaults() -> None:
    assert PrepareSettings.from_toml(CONFIGS / "prepare.toml") == PrepareSettings()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("resolution = 80", "'resolution' is unknown"),
        ("resolution_m = -1", "resolution_m is -1"),
        ('noise = "much"', "noise is 'much'"),
        ("resolution_m = ", "is not valid TOML"),
        ("resolutoin_m = 80", r"unknown \(did you mean 'resolution_m'\?\)"),
        ('noise = "Scaled"', r"not known \(did you mean 'scaled'\?\): known are annotated, scaled, none"),
        ('verify = "maybe"', "verify is 'maybe': true or false is needed"),
        ('resolution_m = "wide"', "resolution_m is 'wide': a number is needed"),
        ("resolution_m = true", "resolution_m is True: a number is needed"),
    ],
)
def test_bad_settings_name_the_key_and_the_value(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words):
        PrepareSettings.from_toml(file)


@pytest.mark.parametrize(
    ("content", "way_out"),
    [
        (b'{"noise": "none"}', "JSON is another language"),
        (b"noise: none", "an equals sign"),
        (b"noise = none", "leave the key out"),
        (b"noise = scaled", "A text is in quotes"),
        (b"x = [scaled, none]", "A text is in quotes"),
        ("noise = \u201cnone\u201d".encode(), "Quotes are straight"),
        (b"// settings", "Comments begin with #"),
        (b'noise = "none";', "without a semicolon"),
        (b"verify = True", "small letters"),
        (b"crs = None", "leave the key out"),
        (b"resolution_m = 80,5", "Decimals have a point"),
        (b"resolution_m = .5", "on both sides of the point"),
        (b'crs = "C:\\Users\\me.prj"', "single quotes"),
        (b'verify = true\rnoise = "none"\r', "lone carriage returns"),
        (b'noise = "\xe4"', "encoding UTF-8"),
        (b'noise = ["none"', "is not closed"),
        (b"resolution_m = 80\nresolution_m = 90", "given twice"),
        (b"[a]\n[a]", "given twice"),
        (b"noise = \x1b[2J", r"The line is: noise = \\x1b\[2J"),
    ],
)
def test_other_languages_of_settings_get_the_way_out(tmp_path: Path, content: bytes, way_out: str) -> None:
    """TOML is known to few: the error shows the line, and what TOML writes in place of what stands there."""
    file = tmp_path / "bad.toml"
    file.write_bytes(content + b"\n")
    with pytest.raises(ConfigError, match=f"is not valid TOML: .*{way_out}") as e:
        PrepareSettings.from_toml(file)
    assert str(e.value).isprintable()


def test_wrong_settings_are_told_in_words_of_the_file() -> None:
    """Not in those of the library that checks them: a list is a list, and one wrong member is one error."""
    with pytest.raises(ConfigError) as e:
        ChartSettings.checked(only=["pdf"], prepare={"nose": "none"})
    only, key = str(e.value).split("; ")
    assert only.startswith("only is 'pdf', which is not known: known are classes, ")
    assert key == "the key 'prepare.nose' is unknown (did you mean 'noise'?)."
    with pytest.raises(ConfigError) as e:
        ChartSettings.checked(only="chart")
    assert str(e.value) == """only is 'chart': write a list, ["chart"]."""


def test_names_that_are_like_a_known_one_are_offered() -> None:
    assert known_names("Focal", ["focal", "dice"]) == "Did you mean 'focal'? Known: focal, dice."
    assert known_names("xyz", ["focal", "dice"]) == "Known: focal, dice."
    with pytest.raises(ConfigError, match="Did you mean 'extremeearth'"):
        legend("extremeerth")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_settings_as_editors_save_them(tmp_path: Path, encoding: str) -> None:
    """Editors of Windows begin a file with a byte order mark, or write two bytes a letter after one."""
    mark = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}.get(encoding, b"")
    (tmp_path / "s.toml").write_bytes(mark + "# Größe\r\nresolution_m = 40.0\r\n".encode(encoding))
    assert PrepareSettings.from_toml(tmp_path / "s.toml").resolution_m == 40


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        PrepareSettings().resolution_m = 40


def grid(size: float = 100, crs: str = "EPSG:3413", left: float = 0.0) -> GeoBox:
    return GeoBox.from_bbox((left, 0, left + size, size), crs, resolution=10)


def test_unequal_grids_raise() -> None:
    check_same_grid(grid(), grid(), "same")
    for other in (grid(110), grid(crs="EPSG:3031"), grid(left=5.0)):
        with pytest.raises(GridError, match="the grids differ"):
            check_same_grid(grid(), other, "labels and bands")


def test_grid_without_crs_raises() -> None:
    with pytest.raises(GridError, match="no CRS"):
        crs_of(GeoBox((2, 2), grid().transform, None))
    assert "EPSG:3413" in brief(grid())


A = Stage("floemap a", "a.json", revision=0)


def put(folder: Path, name: str, content: str = "x") -> None:
    """Write a result: one file and its record."""
    (folder / name).write_text(content)
    write_json(folder / A.record, provenance(A, inputs={}, configuration={}) | {"bytes": made_of(folder)})


def test_stage_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "result"
    with pytest.raises(ZeroDivisionError), stage_folder(final, A) as folder:
        (folder / "half").write_text("half")
        raise ZeroDivisionError
    assert not final.parent.exists()
    with stage_folder(final, A) as folder:
        put(folder, "a", "first")
        assert not final.exists()
    assert (final / "a").read_text() == "first"


def test_stage_folder_replaces_only_on_success(tmp_path: Path) -> None:
    final = tmp_path / "result"
    with stage_folder(final, A) as folder:
        put(folder, "a", "first")
    with pytest.raises(KeyboardInterrupt), stage_folder(final, A) as folder:
        put(folder, "a", "second")
        raise KeyboardInterrupt
    assert (final / "a").read_text() == "first"
    with stage_folder(final, A) as folder:
        put(folder, "b", "third")
    assert sorted(p.name for p in final.iterdir()) == ["a.json", "b"]
    assert [p.name for p in tmp_path.iterdir()] == ["result"]


def test_killed_run_leaves_nothing_that_the_next_does_not_remove(tmp_path: Path) -> None:
    final = tmp_path / "chart [v2]*"  # names may hold what patterns mean something by
    code = (
        "import os, sys; from pathlib import Path; from floemap.results.folders import stage_folder\n"
        "from floemap.results.stage import Stage\n"
        "with stage_folder(Path(sys.argv[1]), Stage('floemap a', 'a.json', 0)) as f:\n"
        "    (f / 'half').write_text('x'); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(final)], check=False)
    assert done.returncode == -9
    assert not final.exists()
    left = [p.name for p in tmp_path.iterdir()]
    assert left and all(name.startswith(f".{final.name}.partial-") for name in left)
    with stage_folder(final, A) as folder:
        put(folder, "whole")
    assert [p.name for p in tmp_path.iterdir()] == [final.name]


def test_what_others_are_making_is_left_alone(tmp_path: Path) -> None:
    """Also by another thread of this process, and by a process that no number tells from this one: by locks alone."""
    final = tmp_path / "result"
    with stage_folder(final, A) as first:
        put(first, "a", "first")
        with stage_folder(final, A) as second:
            assert first != second and first.is_dir()
            put(second, "b", "second")
        assert (first / "a").is_file()
        assert (final / "b").read_text() == "second"
    assert sorted(p.name for p in final.iterdir()) == ["a", "a.json"], "the last one stays"
    assert [p.name for p in tmp_path.iterdir()] == ["result"]


def test_partial_folders_have_names_of_their_own(tmp_path: Path) -> None:
    names = set()
    for _ in range(20):
        with stage_folder(tmp_path / "result", A) as folder:
            put(folder, "a")
            names.add(folder.name)
    assert len(names) == 20


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "result").write_text("in the way")
    with pytest.raises(OutputError, match="in the way"), stage_folder(tmp_path / "result", A):
        pass
    with pytest.raises(OutputError, match="choose another --out"), stage_folder(tmp_path / "result" / "below", A):
        pass
    assert (tmp_path / "result").read_text() == "in the way"


def test_json_is_whole_and_has_no_nan(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_json(file, {"a": 1})
    assert read_json(file) == {"a": 1}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(file, {"a": np.nan})
    assert read_json(file) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    file.write_text(json.dumps([1]))
    with pytest.raises(FloemapError, match="list"):
        read_json(file)
    with pytest.raises(FloemapError, match="does not exist"):
        read_json(tmp_path / "none.json")


def test_where_a_map_is_is_said_with_its_projection() -> None:
    """Of the study's own CRS, which has no number in EPSG, the method's name."""
    at_77n_13w = GeoBox((100, 100), Affine(80, 0, -300_000, 0, -80, -1_380_000), "EPSG:3995")
    assert where_is(at_77n_13w) == "Middle 77°N 12.1°W, projection EPSG:3995"  # by pyproj: 77.03, -12.07
    own = "+proj=stere +lat_0=90 +lon_0=0 +k=1 +x_0=0 +y_0=0 +datum=WGS84 +units=m +no_defs"
    assert where_is(GeoBox((9, 9), Affine(80, 0, 0, 0, -80, -1_000_000), own)).endswith(
        "projection polar stereographic"
    )


@pytest.mark.parametrize("lat", [65, 76, 78, 82, 88, -70])
def test_labels_of_a_map_do_not_lie_on_one_another(lat: int) -> None:
    """On maps of scenes at many places: no label touches another, and none is cut by the frame."""
    for lon in range(-165, 180, 30):
        crs = "EPSG:3413" if lat > 0 else "EPSG:3031"
        x, y = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lon, lat)
        geobox = GeoBox((400, 400), Affine(1000, 0, x - 200_000, 0, -1000, y + 200_000), crs)
        figure = Figure(figsize=(6, 6), dpi=110)
        canvas = FigureCanvasAgg(figure)
        ax = figure.add_axes((0.05, 0.05, 0.9, 0.9))
        furnish(ax, geobox)
        figure.draw_without_rendering()
        renderer = canvas.get_renderer()
        boxes = [t.get_window_extent(renderer) for t in ax.texts if t.get_visible()]
        assert len(boxes) >= 4, "scale, north, and some degrees"
        frame = ax.get_window_extent(renderer)
        for i, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[:i]), (lat, lon)
            assert frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1), (lat, lon)
