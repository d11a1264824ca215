"""What ``tools/draft.py`` writes a definition's first version with: only ``record`` knows transformers."""
