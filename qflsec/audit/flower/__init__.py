"""Flower apps as pipelines: run unchanged over a grid of ours, recorded, and attacked by what the record shows."""
