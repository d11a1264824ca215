"""What PEFT does with an adapter, without torch: which modules it targets, which tensors it has, what it refuses."""
