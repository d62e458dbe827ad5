"""One command that measures the spiking engines side by side: ``python -m benchmarks`` (docs/performance.md)."""
