"""TensorFlow: formats of portackpt."""
