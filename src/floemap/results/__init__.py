"""Results on disk: folders that appear whole or not at all, their records, locks and names."""
