"""Qwen: the decoders, and the models that see, hear and speak."""
