"""Inputs that nobody means well with, run through the command line: what comes out, and what it costs."""
