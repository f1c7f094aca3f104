"""Asks QGIS what it makes of files; run by the system's Python, which has QGIS's library: prints JSON.

    python3 tests/in_qgis.py FILE ...

For each file: whether it is valid, the kind of its renderer, and the labels and colours of its legend.
"""

import json
import os
import sys

from qgis.core import QgsApplication, QgsRasterLayer, QgsVectorLayer

application = QgsApplication([], False)
application.initQgis()
found = {}
for path in sys.argv[1:]:
    if path.endswith(".tif"):
        layer = QgsRasterLayer(path, "layer")
        items = layer.renderer().legendSymbologyItems()
        legend = [[label, colour.name()] for label, colour in items]
    else:
        layer = QgsVectorLayer(path, "layer", "ogr")
        legend = [
            [item.label(), item.symbol().color().name()]
            for item in layer.renderer().legendSymbolItems()
            if item.symbol()
        ]
    found[path] = {"valid": layer.isValid(), "renderer": layer.renderer().type(), "legend": legend}
print(json.dumps(found), flush=True)
os._exit(0)  # taking QGIS down in order may crash, once all is said
