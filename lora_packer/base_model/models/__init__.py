"""The definitions by lineage: the first word of a model type is its file, and a second word says which of its files.

Those that are the only one of their name stand in ``single_...``. Each file ends in its ``ARCHITECTURES``, model type
-> Architecture; ``index.json``, written by ``tools/make_index.py``, says which file has which type.
"""
