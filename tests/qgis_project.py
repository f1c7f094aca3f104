"""Opens a project in QGIS and draws it; run by QGIS's Python: prints JSON.

    python3 tests/qgis_project.py PROJECT.qgz X,Y ...

Title and CRS of the project, its layers, colours of the chart alone at the places X,Y with each of its styles, how many
pixels its labels and the spots change, and messages of QGIS.
"""

import json
import os
import sys
from typing import Any

from qgis.core import (
    QgsApplication,
    QgsMapRendererSequentialJob,
    QgsMapSettings,
    QgsProject,
)
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor, QImage

SIDE = 600

application = QgsApplication([], False)
application.initQgis()
messages: list[str] = []
QgsApplication.messageLog().messageReceived.connect(lambda text, tag, level: messages.append(f"{tag}: {text}"))
project = QgsProject.instance()
assert project.read(sys.argv[1]), project.error()
places = [tuple(map(float, word.split(","))) for word in sys.argv[2:]]


def drawn(layers: list[Any], labels: bool) -> tuple[QImage, Any]:
    settings = QgsMapSettings()
    settings.setLayers(layers)
    settings.setDestinationCrs(project.crs())
    settings.setExtent(project.viewSettings().defaultViewExtent())
    settings.setOutputSize(QSize(SIDE, SIDE))
    settings.setBackgroundColor(QColor("white"))
    settings.setFlag(QgsMapSettings.DrawLabeling, labels)
    settings.setFlag(QgsMapSettings.Antialiasing, False)
    job = QgsMapRendererSequentialJob(settings)
    job.start()
    job.waitForFinished()
    assert not job.errors()
    return job.renderedImage(), settings.mapToPixel()


def colours(layer: Any) -> list[Any]:
    image, to_pixel = drawn([layer], labels=False)
    found = []
    for x, y in places:
        at = to_pixel.transform(x, y)
        found.append(QColor(image.pixel(int(at.x()), int(at.y()))).getRgb()[:3])
    return found


def differing(one: QImage, other: QImage) -> int:
    return sum(one.pixel(x, y) != other.pixel(x, y) for x in range(SIDE) for y in range(SIDE))


tree = project.layerTreeRoot().findLayers()
by_name = {node.layer().source().partition("|")[0].rpartition("/")[2]: node.layer() for node in tree}
chart, spots = by_name["chart.gpkg"], by_name["review.gpkg"]
told: dict[str, Any] = {
    "title": project.title(),
    "abstract": project.metadata().abstract(),
    "label": project.readEntry("TitleLabel", "/Label")[0],
    "crs": project.crs().authid(),
    "ellipsoid": project.ellipsoid(),
    "topological": project.topologicalEditing(),
    "layers": [],
    "renderers": {name: layer.renderer().type() for name, layer in by_name.items()},
    "styles": {},
}
for node in tree:
    layer = node.layer()
    source = layer.source().partition("|")[0]
    told["layers"].append([source, layer.isValid(), node.isVisible(), layer.crs().authid()])
current = chart.styleManager().currentStyle()
told["current"] = current
for style in chart.styleManager().styles():
    assert chart.styleManager().setCurrentStyle(style)
    told["styles"][style] = colours(chart)
chart.styleManager().setCurrentStyle(current)
plain, _ = drawn([chart], labels=False)
told["labels"] = differing(plain, drawn([chart], labels=True)[0])
told["spots"] = differing(plain, drawn([spots, chart], labels=False)[0])
told["form"] = chart.editorWidgetSetup(chart.fields().indexOf("SA")).type()
told["messages"] = messages
print(json.dumps(told), flush=True)
os._exit(0)  # taking QGIS down in order may crash, once all is said
