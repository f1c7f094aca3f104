"""What a model learns from: parts of scenes, crops, normalisation, surveys."""
