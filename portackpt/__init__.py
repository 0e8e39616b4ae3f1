"""A neutral checkpoint format, and conversion of training runs between frameworks."""
