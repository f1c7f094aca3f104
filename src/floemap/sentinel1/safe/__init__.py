"""Reading SAFE products: files in folders and zips, XML, checks of consistency, and pixels."""
