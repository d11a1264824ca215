"""What models are built of: each block yields (path, Module) pairs below a prefix, and knows no model type."""
