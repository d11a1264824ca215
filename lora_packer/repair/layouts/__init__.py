"""Other layouts than PEFT's own on today's transformers, each read into it, and two written from it."""
