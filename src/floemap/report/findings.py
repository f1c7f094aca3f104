"""Three sentences that say what the numbers say: on the score, on the physical checks, and whether the two agree.

They are made from numbers alone. Where an interval does not part two losses, the sentence says so.
"""

from __future__ import annotations

from collections.abc import Mapping

from floemap.report.measures import LEVEL, Measure, Numbers, Row

#: Checks by how much harm the mistake does; the first that tells losses apart is the one that is told of.
_BY_HARM = (
    "old_ice_as_first_year_km2",
    "false_safe_PC5_km2",
    "out_of_season_km2",
    "false_safe_PC7_km2",
    "old_ice_missed_km2",
    "old_ice_invented_km2",
    "ice_edge_km",
    "iiee_km2",
    "impossible_km",
    "patches_ratio",
    "seam_ratio",
    "angle_dependence",
    "ece",
)
#: What a contender does, for the sentence; "{}" is the number with its unit.
_DOES = {
    "old_ice_as_first_year_km2": "calls {} of the charts’ old ice first-year ice",
    "false_safe_PC5_km2": "calls {} safe for a PC 5 ship that the charts do not",
    "false_safe_PC7_km2": "calls {} safe for a PC 7 ship that the charts do not",
    "out_of_season_km2": "shows {} of new, nilas and young ice in the melt season",
    "old_ice_missed_km2": "misses {} of the charts’ old ice",
    "old_ice_invented_km2": "invents {} of old ice",
    "ice_edge_km": "puts the ice edge {} off on average",
    "iiee_km2": "has {} on the wrong side of the ice edge",
    "impossible_km": "draws {} of impossible borders between old ice and water",
    "patches_ratio": "breaks the map into {} times as many patches as the charts",
    "seam_ratio": "changes class {} times as often along the radar’s seams as elsewhere",
    "angle_dependence": "lets a share of {} of the map depend on the incidence angle",
    "ece": "is {} off in its probabilities",
}
_COUNTS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 12: "twelve"}
#: Why that matters.
_WHY = {
    "old_ice_as_first_year_km2": "the mistake that endangers ships",
    "out_of_season_km2": "when none grows",
    "old_ice_missed_km2": "the thickest and hardest there is",
}


def findings(numbers: Numbers, titles: Mapping[str, str], scenes: int) -> list[str]:
    """Return three sentences; fewer where there is nothing to compare.

    Parameters
    ----------
    numbers
        Of the comparison.
    titles
        Of contenders, by key.
    scenes
        How many test scenes there are.
    """
    score = numbers.row("weighted_f1")
    if score is None or not score.spreads:
        return []
    if len(titles) == 1:
        return _of_one(numbers, titles)
    return [_score(score, titles, scenes), _sense(numbers, titles, scenes), _agreement(numbers, score, titles)]


def with_unit(measure: Measure, number: float | None) -> str:
    """Return a number as text with its unit."""
    unit = measure.unit.replace("km2", "km²")
    return f"{measure.text(number)}\u00a0{unit}" if unit else measure.text(number)  # never parted by a line's end


def _of_one(numbers: Numbers, titles: Mapping[str, str]) -> list[str]:
    key, title = next(iter(titles.items()))
    sentences: list[str] = []
    for row in numbers.rows:
        if row.measure.main and key in row.spreads and row.spreads[key].value is not None and len(sentences) < 3:
            if row.measure.key in _DOES:
                number = with_unit(row.measure, row.spreads[key].value)
                sentences.append(f"{title} {_DOES[row.measure.key].format(number)}.")
            elif row.measure.key == "weighted_f1":
                sentences.append(f"{title} has a weighted F1 of {_value(row, key)}.")
    return sentences


def _value(row: Row, key: str, *, say_level: bool = True) -> str:
    """Value with its interval."""
    s = row.spreads[key]
    value = with_unit(row.measure, s.value)
    if s.low is None or s.high is None:
        return value
    level = f"{100 * LEVEL:.0f} % interval " if say_level else ""
    return f"{value} ({level}{row.measure.text(s.low)} to {row.measure.text(s.high)})"


def _with(scenes: int) -> str:
    return "this one scene" if scenes == 1 else f"these {_COUNTS.get(scenes, scenes)} scenes"


def _score(row: Row, titles: Mapping[str, str], scenes: int) -> str:
    if row.best is None or row.worst is None:
        return "By weighted F1 all are alike."
    best, worst = titles[row.best], titles[row.worst]
    last = _value(row, row.worst, say_level=False)
    said = f"By weighted F1, {best} comes first with {_value(row, row.best)} and {worst} last with {last}"
    if row.told_apart is None:
        return f"{said}; with {_with(scenes)} nothing can be said of how sure that is."
    if row.told_apart:
        return f"{said}; with {_with(scenes)} the two can be told apart."
    return f"{said}, but with {_with(scenes)} the two cannot be told apart."


def _sense(numbers: Numbers, titles: Mapping[str, str], scenes: int) -> str:
    """The most harmful mistake that tells losses apart: the one that the score hides, if there is one."""
    sure = [r for r in _by_harm(numbers) if r.told_apart]
    score = numbers.row("weighted_f1")
    hidden = [r for r in sure if score is not None and r.worst == score.best]
    for row in [*hidden, *sure]:
        if row.best is None or row.worst is None:
            continue
        key = row.measure.key
        number, other = (with_unit(row.measure, row.spreads[k].value) for k in (row.worst, row.best))
        why = f", {_WHY[key]};" if key in _WHY else ","
        return f"{titles[row.worst]} {_DOES[key].format(number)}{why} {titles[row.best]} {other}."
    return f"With {_with(scenes)} no physical check tells any two of them apart."


def _by_harm(numbers: Numbers) -> list[Row]:
    """Checks of the first table, the most harmful mistake first."""
    rows = {r.measure.key: r for r in numbers.rows if r.measure.main}
    return [rows[key] for key in _BY_HARM if key in rows]


def _agreement(numbers: Numbers, score: Row, titles: Mapping[str, str]) -> str:
    """Whether the best by score is the best by sense."""
    sure = [r for r in _by_harm(numbers) if r.told_apart]
    if score.best is None or not sure:
        return "Neither the score nor a check says which map to trust more."
    winner, n = titles[score.best], len(sure)
    first = sum(r.best == score.best for r in sure)
    last = [r.measure.title for r in sure if r.worst == score.best]
    checks = "the one physical check that tells" if n == 1 else f"the {n} physical checks that tell"
    if first == n:
        return f"{winner}, first by score, is also best in {checks} losses apart: here score and sense agree."
    words = f"Of {checks} losses apart, {winner}, first by score, is best in {first or 'none'}"
    if last:
        named = ", ".join(t[0].lower() + t[1:] for t in last[:3])
        more = f", and {len(last) - 3} more" if len(last) > 3 else ""
        words += f" and worst in {len(last)} ({named}{more})"
    return f"{words}: the score alone does not say which map to trust."
