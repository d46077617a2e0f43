"""Expectations: whether the lake holds what the source holds, how fresh it is, and how its schema moved."""
