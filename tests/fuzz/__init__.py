"""Sampled property tests: one generator of cases, used by the tests in CI and by `make fuzz`.

A *signature* is an operation, a storage format, a dtype and the widths of the index arrays: what is compiled once. A
*case* is a signature with sizes, a pattern and values: what one call checks against dense PyTorch in float64.
"""
