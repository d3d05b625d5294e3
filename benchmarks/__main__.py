"""`make bench`: compiled kernels beside PyTorch's, on this machine's CPU."""

from benchmarks import cpu_attention, cpu_conversions, cpu_products

if __name__ == "__main__":
    raise SystemExit(bool(cpu_products.main() + cpu_attention.main() + cpu_conversions.main()))
