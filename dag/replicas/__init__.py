"""Data-parallel replicas of a pipeline, where there are more devices than one needs."""
