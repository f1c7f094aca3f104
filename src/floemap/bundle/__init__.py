"""A part of a chart for a ship: cropped to an area, simplified to a number of bytes, in one zip."""
