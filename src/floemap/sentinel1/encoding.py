"""How ``product.tif`` stores its bands: names, order, steps, no-data, mask bits."""

from __future__ import annotations

from floemap.bands import NODATA as NODATA  # of all bands but the mask, whose no-data value is 0
from floemap.bands import BandSet, InputBand

POLARISATIONS = ("HH", "HV")
#: Physical value (dB, degrees) of one step of the stored int16.
SCALE = 0.01
#: The bands that hold physical values, in the file's order. The mask follows them. Models read them by default.
PRODUCT_BANDS = BandSet(
    (InputBand("hh_db", "dB", SCALE), InputBand("hv_db", "dB", SCALE), InputBand("incidence_deg", "degree", SCALE))
)
BAND_NAMES = PRODUCT_BANDS.names
#: Bits of the mask band.
MASK_VALID, MASK_HH_BELOW_FLOOR, MASK_HV_BELOW_FLOOR = 1, 2, 4
