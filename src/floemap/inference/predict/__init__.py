"""From a prepared product and a checkpoint to class maps."""
