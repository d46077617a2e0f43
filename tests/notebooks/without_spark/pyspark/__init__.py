"""Stands before the tests' pyspark in a notebook's kernel: an analyst's environment has none."""

raise ModuleNotFoundError("No module named 'pyspark'", name="pyspark")
