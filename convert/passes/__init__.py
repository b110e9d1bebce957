"""The conversion passes, one verb on one graph each; `pipeline.py` has their order."""
