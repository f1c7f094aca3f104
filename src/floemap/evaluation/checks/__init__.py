"""Physical checks: does the map make sense? One module a family of checks; each a pure function of arrays.

A check takes a :class:`~floemap.evaluation.checks.classes.MapPair`, the map and the reference it is compared with, and
returns a :class:`~floemap.evaluation.checks.amounts.ByBlock`: areas, lengths and counts of each block, which add over
blocks and scenes; or a sentence that says why the check does not apply. What is divided is divided at the end, by
``values()``. :mod:`floemap.evaluation.checks.scene_checks` runs all of them on a scene's files and pools scenes;
:mod:`floemap.evaluation.checks.headlines` says which numbers go into a table, and ranks them so that no map is better
than the reference itself. ``docs/physical-checks.md`` explains them to people.
"""
