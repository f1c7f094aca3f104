"""How ``product.tif`` stores its bands: names, order, steps, no-data, mask bits.

The module imports nothing, so that every room can use it.
"""

from __future__ import annotations

POLARISATIONS = ("HH", "HV")
#: Names of the bands that hold physical values, in the file's order. The mask follows them.
BAND_NAMES = ("hh_db", "hv_db", "incidence_deg")
#: Stored no-data value of all bands but the mask, whose no-data value is 0.
NODATA = -32768
#: Physical value (dB, degrees) of one step of the stored int16.
SCALE = 0.01
#: Bits of the mask band.
MASK_VALID, MASK_HH_BELOW_FLOOR, MASK_HV_BELOW_FLOOR = 1, 2, 4
