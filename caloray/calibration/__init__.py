"""Fitting the post-processing of a trained bundle to reference showers, and the bundle that carries it.

Showers that the model is judged by later must not be used here. Of those that are, every fourth one is held
out of the fit; what the steps achieve is measured on these.
"""
