"""What the numbers say, in sentences: on the score, on the most harmful mistake, and whether the two agree.

They are made from numbers alone, and claim a difference only where a row is told apart. Mistakes are told in the order
of the harm they do. A loss is never praised for a part of what it does worse as a whole: see :data:`CONTAINED_IN`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from floemap.evaluation.statistics.bootstrap import FEW_SCENES
from floemap.report.measures import LEVEL, NEAR, Measure, Numbers, Reference, Row

#: Mistakes in the order of the harm they do; the first that tells losses apart is the one that is told of.
BY_HARM = (
    "old_ice_missed_km2",
    "risk_understated",
    "false_safe_PC7_km2",
    "out_of_season_km2",
    "old_ice_invented_km2",
    "ice_edge_km",
    "iiee_km2",
    "impossible_km",
    "patches_per_1000_km2",
    "seam_ratio",
    "angle_dependence",
    "ece",
)
#: Measures that count every mistake that the key counts, and more of the same kind: ice called thinner than it is. Old
#: ice called nilas is no improvement on old ice called first-year, though it lowers that number.
CONTAINED_IN: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "old_ice_as_first_year_km2": ("old_ice_missed_km2", "risk_understated"),
        "old_ice_missed_km2": ("risk_understated",),
        "false_safe_PC7_km2": ("risk_understated",),
        "false_safe_none_km2": ("risk_understated",),
    }
)
#: What a contender does, for the sentence; "{}" is the number with its unit, the rest words for the reference.
_DOES = {
    "old_ice_missed_km2": "misses {} of {whose} old ice",
    "risk_understated": "makes the ice {} of risk index outcome safer than {than}, on average",
    "false_safe_PC7_km2": "calls {} safe for a PC 7 ship where {who} not",
    "out_of_season_km2": "invents {} of new, nilas and young ice in the melt season",
    "old_ice_invented_km2": "invents {} of old ice",
    "ice_edge_km": "puts the ice edge {} off on average",
    "iiee_km2": "has {} on the wrong side of the ice edge",
    "impossible_km": "draws {} of impossible borders between old ice and water",
    "patches_per_1000_km2": "breaks the map into patches, {}",
    "seam_ratio": "changes class {} times as often along the radar’s seams as elsewhere",
    "angle_dependence": "lets a share of {} of the map depend on the incidence angle",
    "ece": "is {} off in its probabilities",
}
#: Numbers that stand beside another, with both contenders: a map of nothing but old ice misses none.
_DETAILS = {
    "old_ice_missed_km2": (
        ("old_ice_as_first_year_km2", "{} of it as first-year ice"),
        ("old_ice_invented_km2", "and invents {}"),
    )
}
#: Values shown where nothing can be told apart at all.
_SHOWN = ("weighted_f1", *BY_HARM[:2])
_COUNTS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 12: "twelve"}
#: Words for what maps are compared with.
_WORDS: dict[Reference, dict[str, str]] = {
    "chart": {"whose": "the charts’", "who": "the charts do", "than": "the charts", "has": "the charts have"},
    "truth": {"whose": "the true", "who": "it is", "than": "it is", "has": "the truth has"},
}


@dataclass(frozen=True)
class Finding:
    """A sentence.

    Attributes
    ----------
    text
        For people.
    measures
        Keys of what it says that one contender does better in.
    praised
        Key of that contender.
    """

    text: str
    measures: tuple[str, ...] = ()
    praised: str | None = None


def findings(numbers: Numbers, titles: Mapping[str, str]) -> list[Finding]:
    """Return three sentences; fewer where there is nothing to compare.

    Parameters
    ----------
    numbers
        Of the comparison.
    titles
        Of contenders, by key.
    """
    score = numbers.row("weighted_f1")
    if score is None or not score.spreads:
        return []
    if len(titles) == 1:
        return [Finding(text) for text in _of_one(numbers, titles)]
    if min(numbers.repeats.values(), default=1) < 2:
        return [Finding(text) for text in _values(numbers, titles)]
    sure = [r for r in _by_harm(numbers) if _may_be_praised(numbers, r)]
    return [_score(score, titles, numbers), _sense(sure, numbers, titles), _agreement(sure, score, titles)]


def with_unit(measure: Measure, number: float | None) -> str:
    """Return a number as text with its unit."""
    unit = measure.unit.replace("km2", "km²")
    return f"{measure.text(number)}\u00a0{unit}" if unit else measure.text(number)  # never parted by a line's end


def _of_one(numbers: Numbers, titles: Mapping[str, str]) -> list[str]:
    """Of a single contender: its score and its most harmful mistakes."""
    key, title = next(iter(titles.items()))
    known = [r for r in _by_harm(numbers) if key in r.spreads and r.spreads[key].value is not None]
    sentences = []
    if (score := numbers.row("weighted_f1")) is not None and key in score.spreads:
        sentences.append(f"{title} has a weighted F1 of {_value(score, key)}.")
    return sentences + [f"{title} {_does(r, key, numbers)}." for r in known[:2]]


def _values(numbers: Numbers, titles: Mapping[str, str]) -> list[str]:
    """Of losses of which one was trained once: numbers without a verdict."""
    once = all(n == 1 for n in numbers.repeats.values())
    sentences = [
        f"{'One training of each loss' if once else 'One training of a loss'}: differences between losses cannot be "
        "separated from differences between trainings, so this report shows values and no winner."
    ]
    for row in (r for key in _SHOWN if (r := numbers.row(key)) is not None and r.spreads):
        each = [f"{titles[k]} {with_unit(row.measure, s.value)}" for k, s in row.spreads.items() if k in titles]
        sentences.append(f"{row.measure.title}: {', '.join(each)}.")
    return sentences


def _value(row: Row, key: str) -> str:
    """Value with its interval."""
    s = row.spreads[key]
    value = with_unit(row.measure, s.value)
    if s.low is None or s.high is None:
        return value
    return f"{value} ({100 * LEVEL:.0f} % interval {row.measure.text(s.low)} to {row.measure.text(s.high)})"


def _claim(row: Row, numbers: Numbers) -> str:
    """What a difference is claimed of: scenes and trainings."""
    scenes = len(row.between.by_scene) if row.between is not None else 0
    ground = "this one scene" if scenes == 1 else f"these {_COUNTS.get(scenes, scenes)} scenes"
    if scenes >= FEW_SCENES:
        ground = f"scenes like {ground}"
    fewest = min(numbers.repeats.values())
    return f"on {ground} and for trainings like these {_COUNTS.get(fewest, fewest)} of each loss"


def _score(row: Row, titles: Mapping[str, str], numbers: Numbers) -> Finding:
    if row.best is None or row.worst is None:
        return Finding("By weighted F1 all are alike.")
    first, last = (with_unit(row.measure, row.spreads[k].value) for k in (row.best, row.worst))
    said = f"By weighted F1, {titles[row.best]} comes first with {first} and {titles[row.worst]} last with {last}"
    if row.told_apart:
        claim = _claim(row, numbers)
        return Finding(f"{said}: {claim}, the two can be told apart.", (row.measure.key,), row.best)
    if row.told_apart is None:
        reason = row.between.reason if row.between is not None else None
        return Finding(f"{said}; whether that is more than chance cannot be said: {reason}.")
    return Finding(f"{said}, which may be chance: the two cannot be told apart.")


def _sense(sure: list[Row], numbers: Numbers, titles: Mapping[str, str]) -> Finding:
    """The most harmful mistake that tells losses apart."""
    chance = _may_be_chance(numbers, titles)
    if not sure:
        return Finding(f"No physical check and no measure of risk tells any two losses apart.{chance}")
    row = sure[0]
    assert row.best is not None and row.worst is not None  # or it would not be told apart
    words = f"{titles[row.worst]} {_does(row, row.worst, numbers)}; {titles[row.best]} {_does(row, row.best, numbers)}"
    words += _beside(row, numbers)
    claim = f"{_claim(row, numbers)}, the two can be told apart."
    return Finding(f"{words}: {claim}{chance}", (row.measure.key,), row.best)


def _may_be_chance(numbers: Numbers, titles: Mapping[str, str]) -> str:
    """The most harmful mistake, where it does not tell losses apart: it is told of all the same."""
    first = next(iter(_by_harm(numbers)), None)
    if first is None or first.told_apart is not False or first.best is None or first.worst is None:
        return ""
    best, worst = (
        f"{with_unit(first.measure, first.spreads[k].value)} ({titles[k]})" for k in (first.best, first.worst)
    )
    return f" {first.measure.title} is between {best} and {worst}, which may be chance."


def _does(row: Row, key: str, numbers: Numbers) -> str:
    """What a contender does, with the numbers that belong beside it."""
    number = with_unit(row.measure, row.spreads[key].value)
    words = [_DOES[row.measure.key].format(number, **_WORDS[numbers.reference])]
    for other, text in _DETAILS.get(row.measure.key, ()):
        detail = numbers.row(other)
        value = None if detail is None or key not in detail.spreads else detail.spreads[key].value
        if detail is not None and value is not None and (value > 0 or text.startswith("and")):
            words.append(text.format(with_unit(detail.measure, value)))
    return ", ".join(words)


def _beside(row: Row, numbers: Numbers) -> str:
    """The reference's own number, where that is the best."""
    own = row.chart if numbers.reference == "chart" else row.truth
    if row.measure.better != NEAR or own is None:
        return ""
    return f"; {_WORDS[numbers.reference]['has']} {with_unit(row.measure, own)}"


def _by_harm(numbers: Numbers) -> list[Row]:
    """Checks and risks in the order of harm."""
    rows = {r.measure.key: r for r in numbers.rows}
    return [rows[key] for key in BY_HARM if key in rows and rows[key].spreads]


def _may_be_praised(numbers: Numbers, row: Row) -> bool:
    """Whether a row tells losses apart, and its best is no worse than its worst in what contains it."""
    if not row.told_apart or row.best is None or row.worst is None:
        return False
    wholes = [r for key in CONTAINED_IN.get(row.measure.key, ()) if (r := numbers.row(key)) is not None]
    return all(r.badness[row.best] <= r.badness[row.worst] for r in wholes if {row.best, row.worst} <= set(r.badness))


def _agreement(sure: list[Row], score: Row, titles: Mapping[str, str]) -> Finding:
    """Whether the best by score is the best by sense."""
    if not sure:
        if score.told_apart:
            return Finding("Only the score tells losses apart: whether its winner makes the safer map is not known.")
        return Finding("Neither the score nor a check says which map to trust more.")
    n = len(sure)
    checks = "one check or risk that tells" if n == 1 else f"{n} checks and risks that tell"
    if not score.told_apart or score.best is None:
        return Finding(f"The score does not tell the losses apart; look first at the {checks} some of them apart.")
    winner = titles[score.best]
    first = tuple(r.measure.key for r in sure if r.best == score.best)
    last = [r for r in sure if r.worst == score.best]
    if len(first) == n:
        text = f"{winner}, first by score, is also best in the {checks} losses apart: here score and sense agree."
        return Finding(text, first, score.best)
    words = f"Of the {checks} losses apart, {winner}, first by score, is best in {len(first) or 'none'}"
    if last:
        named = ", ".join(r.measure.title[0].lower() + r.measure.title[1:] for r in last[:3])
        more = f", and {len(last) - 3} more" if len(last) > 3 else ""
        words += f" and worst in {len(last)} ({named}{more})"
    return Finding(f"{words}: the score alone does not say which map to trust.", first, score.best)
