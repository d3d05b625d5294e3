"""Kernels for block lists on a GPU; all write memory that the host has allocated, and none makes it wait."""
