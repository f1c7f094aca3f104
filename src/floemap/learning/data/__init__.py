"""Training data: parts of scenes, crops, normalisation, surveys."""
