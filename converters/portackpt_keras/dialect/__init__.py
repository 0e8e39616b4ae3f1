"""The Keras dialect: what Keras' configurations mean, and how it spells what others mean."""
