"""Many scenes: an archive of products charted on a cluster, and products charted as they arrive."""
