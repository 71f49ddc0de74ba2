"""Makers of the small reference results under tests/data, one module per section."""
