"""Gemma: the decoders, Gemma 4 with its tower, and the models that see."""
