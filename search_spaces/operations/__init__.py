"""Layers that search spaces choose from."""
