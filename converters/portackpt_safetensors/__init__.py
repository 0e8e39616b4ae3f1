"""safetensors: formats of portackpt."""
