"""Physical checks: does the map make sense? Each module holds a family of checks; each check is a function of arrays.

A check takes a :class:`~floemap.evaluation.checks.classes.MapPair`, the map and the reference that it is compared
with. It returns a :class:`~floemap.evaluation.checks.amounts.ByBlock`, the areas, lengths and counts of each block,
which add over blocks and scenes; or a sentence with the reason why the check does not apply. Quotients are computed
last, by ``values()``. :mod:`floemap.evaluation.checks.scene_checks` runs all checks on a scene's files and pools
scenes; :mod:`floemap.evaluation.checks.measures` ranks maps by their numbers so that no map is better than the
reference itself. ``docs/physical-checks.md`` explains the checks.
"""
