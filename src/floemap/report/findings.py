"""The findings: sentences on the score, on the most harmful mistake, and on whether the two agree.

They follow from the numbers alone, and claim a difference only where that of a row is significant. Mistakes are
reported in the order of harm. No loss is praised for a part of a mistake that it makes more often as a whole: see
:attr:`floemap.evaluation.checks.measures.Measure.within`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from floemap.evaluation.checks.measures import NEAR, Measure, Reference
from floemap.evaluation.statistics.bootstrap import FEW_SCENES
from floemap.report.measures import LEVEL, Numbers, Row

#: Numbers reported with another one, for both contenders: a map that shows nothing but old ice misses none.
_DETAILS = {
    "old_ice_missed_km2": (
        ("old_ice_as_first_year_km2", "{} of it as first-year ice"),
        ("old_ice_invented_km2", "and invents {}"),
    )
}
#: Measures whose values are reported where no difference can be tested.
_SHOWN = ("weighted_f1", "old_ice_missed_km2", "risk_understated")
_COUNTS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 12: "twelve"}
#: Words for the reference.
_WORDS: dict[Reference, dict[str, str]] = {
    "chart": {"whose": "the charts’", "who": "the charts do", "than": "the charts", "has": "the charts have"},
    "truth": {"whose": "the true", "who": "it is", "than": "it is", "has": "the truth has"},
}


@dataclass(frozen=True)
class Finding:
    """A sentence, with its claim.

    Attributes
    ----------
    text
        The sentence.
    measures
        Keys of the measures in which the sentence calls one contender better.
    praised
        Key of that contender.
    """

    text: str
    measures: tuple[str, ...] = ()
    praised: str | None = None


def findings(numbers: Numbers, titles: Mapping[str, str], readers: frozenset[str] = frozenset()) -> list[Finding]:
    """Return three sentences, and a fourth on learning from partial concentrations; fewer with nothing to compare.

    Parameters
    ----------
    numbers
        The numbers of the comparison.
    titles
        Titles of contenders, by key.
    readers
        Keys of the contenders that learn from partial concentrations.
    """
    score = numbers.row("weighted_f1")
    if score is None or not score.spreads:
        return []
    if len(titles) == 1:
        return [Finding(text) for text in _of_one(numbers, titles)]
    if min(numbers.repeats.values(), default=1) < 2:
        return [*_of_shares(numbers, titles, readers), *map(Finding, _values(numbers, titles))]
    sure = [r for r in _by_harm(numbers) if _may_be_praised(numbers, r)]
    own = [_score(score, titles, numbers), _sense(sure, numbers, titles), _agreement(sure, score, titles)]
    return [*_of_shares(numbers, titles, readers), *own]


#: Measures that answer whether learning from partial concentrations makes better charts.
_ABOUT_SHARES = ("share_error", "truth_in_mixed", "weighted_f1", "risk_understated")


def _of_shares(numbers: Numbers, titles: Mapping[str, str], readers: frozenset[str]) -> list[Finding]:
    """Return whether learning from partial concentrations is better than from the dominant type, if both are compared.

    The p-value of a pair is that of the largest difference among all losses, so the pair may be chosen by the numbers.
    It is claimed at the level divided by the number of tested rows, which keeps the level over all rows (Bonferroni).
    """
    tested = sum(r.told_apart is not None for r in numbers.rows) or 1
    parts = []
    for row in (r for key in _ABOUT_SHARES if (r := numbers.row(key)) is not None and r.sides is not None):
        s = row.sides
        assert s is not None
        sure = s.p is not None and s.p <= (1 - LEVEL) / tested
        values = [f"{titles[k]} {with_unit(row.measure, row.spreads[k].value)}" for k in (s.a, s.b)]
        word = "cannot be said" if not sure else "yes" if s.a in readers else "no"
        parts.append(f"{row.measure.title}: {word} ({values[0]} against {values[1]})")
    if not parts:
        return []
    question = "Does learning from partial concentrations make better charts than learning from the dominant type?"
    return [Finding(f"{question} The best of each kind: {'; '.join(parts)}.")]


def with_unit(measure: Measure, number: float | None) -> str:
    """Return a number as text with its unit."""
    unit = measure.shown_unit
    return f"{measure.text(number)}\u00a0{unit}" if unit else measure.text(number)  # the space does not break lines


def _of_one(numbers: Numbers, titles: Mapping[str, str]) -> list[str]:
    """Return the sentences for a single contender: its score and its most harmful mistakes."""
    key, title = next(iter(titles.items()))
    known = [r for r in _by_harm(numbers) if key in r.spreads and r.spreads[key].value is not None]
    sentences = []
    if (score := numbers.row("weighted_f1")) is not None and key in score.spreads:
        sentences.append(f"{title} has a weighted F1 of {_value(score, key)}.")
    return sentences + [f"{title} {_does(r, key, numbers)}." for r in known[:2]]


def _values(numbers: Numbers, titles: Mapping[str, str]) -> list[str]:
    """Return the sentences where a loss was trained once only: numbers without a verdict."""
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
    """Return a value with its interval."""
    s = row.spreads[key]
    value = with_unit(row.measure, s.value)
    if s.low is None or s.high is None:
        return value
    return f"{value} ({100 * LEVEL:.0f} % interval {row.measure.text(s.low)} to {row.measure.text(s.high)})"


def _claim(row: Row, numbers: Numbers) -> str:
    """Return the scenes and trainings for which a difference is claimed."""
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
        return Finding(f"{said}: {claim}, the difference is significant.", (row.measure.key,), row.best)
    if row.told_apart is None:
        reason = row.between.reason if row.between is not None else None
        return Finding(f"{said}; whether that is more than chance cannot be said: {reason}.")
    return Finding(f"{said}, which may be chance: the difference is not significant.")


def _sense(sure: list[Row], numbers: Numbers, titles: Mapping[str, str]) -> Finding:
    """Return the finding on the most harmful mistake with a significant difference."""
    chance = _may_be_chance(numbers, titles)
    if not sure:
        return Finding(f"No physical check and no measure of risk shows a significant difference of losses.{chance}")
    row = sure[0]
    assert row.best is not None and row.worst is not None  # or its difference would not be significant
    words = f"{titles[row.worst]} {_does(row, row.worst, numbers)}; {titles[row.best]} {_does(row, row.best, numbers)}"
    words += _beside(row, numbers)
    claim = f"{_claim(row, numbers)}, the difference is significant."
    return Finding(f"{words}: {claim}{chance}", (row.measure.key,), row.best)


def _may_be_chance(numbers: Numbers, titles: Mapping[str, str]) -> str:
    """Return the sentence on the most harmful mistake where its difference is not significant; else ""."""
    first = next(iter(_by_harm(numbers)), None)
    if first is None or first.told_apart is not False or first.best is None or first.worst is None:
        return ""
    best, worst = (
        f"{with_unit(first.measure, first.spreads[k].value)} ({titles[k]})" for k in (first.best, first.worst)
    )
    return f" {first.measure.title} is between {best} and {worst}, which may be chance."


def _does(row: Row, key: str, numbers: Numbers) -> str:
    """Return what a contender does, with the numbers that belong to it."""
    number = with_unit(row.measure, row.spreads[key].value)
    words = [row.measure.sentence.format(number, **_WORDS[numbers.reference])]
    for other, text in _DETAILS.get(row.measure.key, ()):
        detail = numbers.row(other)
        value = None if detail is None or key not in detail.spreads else detail.spreads[key].value
        if detail is not None and value is not None and (value > 0 or text.startswith("and")):
            words.append(text.format(with_unit(detail.measure, value)))
    return ", ".join(words)


def _beside(row: Row, numbers: Numbers) -> str:
    """Return the reference's own number for measures that are best near it; else ""."""
    own = row.chart if numbers.reference == "chart" else row.truth
    if row.measure.better != NEAR or own is None:
        return ""
    return f"; {_WORDS[numbers.reference]['has']} {with_unit(row.measure, own)}"


def _by_harm(numbers: Numbers) -> list[Row]:
    """Return the rows of checks and risks in the order of harm."""
    return sorted((r for r in numbers.rows if r.measure.harm and r.spreads), key=lambda r: r.measure.harm)


def _may_be_praised(numbers: Numbers, row: Row) -> bool:
    """Return whether a row's difference is significant, and its best is no worse in the measures that contain it."""
    if not row.told_apart or row.best is None or row.worst is None:
        return False
    wholes = [r for key in row.measure.within if (r := numbers.row(key)) is not None]
    return all(r.badness[row.best] <= r.badness[row.worst] for r in wholes if {row.best, row.worst} <= set(r.badness))


def _agreement(sure: list[Row], score: Row, titles: Mapping[str, str]) -> Finding:
    """Return the finding on whether the best by score is also the best by checks and risks."""
    if not sure:
        if score.told_apart:
            return Finding(
                "Only the score shows a significant difference: whether its winner makes the safer map is not known."
            )
        return Finding("Neither the score nor a check says which map to trust more.")
    n = len(sure)
    checks = "one check or risk that shows a significant" if n == 1 else f"{n} checks and risks that show a significant"
    if not score.told_apart or score.best is None:
        return Finding(f"The score shows no significant difference; look first at the {checks} one.")
    winner = titles[score.best]
    first = tuple(r.measure.key for r in sure if r.best == score.best)
    last = [r for r in sure if r.worst == score.best]
    if len(first) == n:
        text = f"{winner}, first by score, is also best in the {checks} difference: here score and sense agree."
        return Finding(text, first, score.best)
    words = f"Of the {checks} difference, {winner}, first by score, is best in {len(first) or 'none'}"
    if last:
        named = ", ".join(r.measure.title[0].lower() + r.measure.title[1:] for r in last[:3])
        more = f", and {len(last) - 3} more" if len(last) > 3 else ""
        words += f" and worst in {len(last)} ({named}{more})"
    return Finding(f"{words}: the score alone does not say which map to trust.", first, score.best)
