"""From a Python function to regions of ``linalg`` text: trace, find what sparsity touches, cut, import, annotate."""
