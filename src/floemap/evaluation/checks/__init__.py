"""Physical checks: does the map make sense? One module a family of checks; each a pure function of arrays.

A check returns :class:`~floemap.evaluation.checks.amounts.Amounts`: areas, lengths and counts, which add over strips
and scenes. What is divided is divided at the end, by ``values()``. :mod:`floemap.evaluation.consistency` runs all of
them on a scene's files and pools scenes; :mod:`floemap.evaluation.checks.headlines` says which numbers go into a table.
``docs/physical-checks.md`` explains them to people.
"""
