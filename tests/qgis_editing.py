"""Edits charts in QGIS, as an analyst does; run by QGIS's Python: prints JSON.

    python3 tests/qgis_editing.py LAYER ...

For each layer: its renderer, the class and colours of each polygon before and after corrections, the corrected, new and
split polygons as they are after closing and opening, constraints that values break, the form, and messages of QGIS.
"""

import json
import os
import sys
from typing import Any

from qgis.core import (
    QgsApplication,
    QgsFeature,
    QgsFieldConstraints,
    QgsGeometry,
    QgsPointXY,
    QgsRectangle,
    QgsRenderContext,
    QgsVectorLayer,
    QgsVectorLayerUtils,
)

application = QgsApplication([], False)
application.initQgis()
messages: list[str] = []
QgsApplication.messageLog().messageReceived.connect(lambda text, tag, level: messages.append(f"{tag}: {text}"))


def opened(uri: str) -> Any:
    layer = QgsVectorLayer(uri, "chart", "ogr")
    assert layer.isValid(), uri
    return layer


def polygons(layer: Any) -> list[Any]:
    return sorted(layer.getFeatures(), key=lambda f: f.id())


def shown(layer: Any) -> list[Any]:
    context = QgsRenderContext()
    renderer = layer.renderer().clone()
    context.expressionContext().setFields(layer.fields())
    renderer.startRender(context, layer.fields())
    found = []
    for f in polygons(layer):
        context.expressionContext().setFeature(f)
        found.append([f["CLASS"] or "", [s.color().getRgb()[:3] for s in renderer.symbolsForFeature(f, context)]])
    renderer.stopRender(context)
    return found


def values(feature: Any) -> dict[str, Any]:
    return {n: v if isinstance(v, int | float | str) else None for n, v in feature.attributeMap().items()}


def broken(layer: Any, feature: Any, strength: Any) -> list[str]:
    origin = QgsFieldConstraints.ConstraintOriginLayer
    return [
        field.name()
        for i, field in enumerate(layer.fields())
        if not QgsVectorLayerUtils.validateAttribute(layer, feature, i, strength, origin)[0]
    ]


def edited(uri: str) -> dict[str, Any]:
    layer = opened(uri)
    number = layer.fields().indexOf
    told: dict[str, Any] = {"renderer": layer.renderer().type(), "before": shown(layer)}
    told["widgets"] = [[f.name(), layer.editorWidgetSetup(i).type()] for i, f in enumerate(layer.fields())]
    told["read_only"] = [f.name() for i, f in enumerate(layer.fields()) if layer.editFormConfig().readOnly(i)]
    assert layer.labelsEnabled() and layer.startEditing()
    first, second = polygons(layer)[:2]
    layer.changeAttributeValue(first.id(), number("SA"), "95")
    corners = list(first.geometry().vertices())
    place = min(range(4), key=lambda i: corners[i].x() + corners[i].y())  # the lower left one
    layer.moveVertex(corners[place].x() - 10_000, corners[place].y(), first.id(), place)
    box = second.geometry().boundingBox()
    middle, x = (box.yMinimum() + box.yMaximum()) / 2, box.xMinimum() + 10_000
    square = QgsGeometry.fromRect(QgsRectangle(x, middle, x + 5_000, middle + 5_000))
    new = QgsVectorLayerUtils.createFeature(layer, square, {}, layer.createExpressionContext())
    assert layer.addFeature(new)
    layer.selectByIds([second.id()])
    assert layer.splitFeatures([QgsPointXY(box.xMinimum() - 9, middle), QgsPointXY(box.xMaximum() + 9, middle)]) == 0
    cases: dict[str, dict[str, str]] = {"as it is": {}, "sum": {"CT": "80", "CA": "20", "CB": "50", "SB": "81"}}
    cases |= {"order": {"CT": "80", "CA": "20", "CB": "60", "SB": "97"}, "code": {"CT": "93", "CA": "-9"}}
    hard, soft = QgsFieldConstraints.ConstraintStrengthHard, QgsFieldConstraints.ConstraintStrengthSoft
    told["broken"], told["soft"] = {}, {}
    for name, changed in (cases | {"new": {}}).items():
        feature = QgsFeature(new if name == "new" else second)
        for field, value in changed.items():
            feature[field] = value
        told["soft"][name] = broken(layer, feature, soft)
        told["broken"][name] = broken(layer, feature, hard) + told["soft"][name]
    assert layer.commitChanges(), layer.commitErrors()
    layer = opened(uri)
    told["after"] = shown(layer)
    found = polygons(layer)
    told["moved"], told["new"], told["split"] = values(found[0]), values(found[4]), [values(f) for f in found[1:6:4]]
    told["messages"] = list(messages)
    messages.clear()
    return told


print(json.dumps([edited(uri) for uri in sys.argv[1:]]), flush=True)
os._exit(0)  # taking QGIS down in order may crash, once all is said
