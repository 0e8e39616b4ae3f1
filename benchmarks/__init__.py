"""One command for every figure that is quoted anywhere."""
