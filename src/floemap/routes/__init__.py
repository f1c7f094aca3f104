"""A ship's route through a chart: the risk of each leg by POLARIS."""
