"""Where checkpoints lie: so far the local disk."""
