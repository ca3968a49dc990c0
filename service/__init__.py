"""Serves classifiers of handwritten digits and garments over HTTP."""

__version__ = "0.1.0"
