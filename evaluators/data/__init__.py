"""Datasets: reading the formats that people have them in, and splitting them."""
