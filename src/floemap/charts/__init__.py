"""Ice charts in SIGRID-3: read, checked, labelled on a product's grid; and the ExtremeEarth dataset.

``sources`` finds a chart's files and sees whether they are whole, ``codes`` knows its codes, ``sigrid3`` reads it,
``projecting`` brings its polygons to another map, ``dominant`` decides their types and shares, ``rasterize`` draws
them, ``label`` writes label folders, ``coverage``, ``describe`` and ``picture`` say what a chart is.

And the way back: ``vectorize`` draws the polygons of a class raster (with ``smoothing``, ``patches``, ``borders``,
``outlines``, ``polygon_means``), ``write_sigrid3`` and ``write_vector`` write them (with ``chart_table``, ``fgdc``,
``qgis_style``, ``lonlat``, ``whole_files``).
"""
