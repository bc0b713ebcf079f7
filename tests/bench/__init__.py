"""Benchmarks: backchain beside QEMU's tools on the same files. ``make bench`` runs them; no test asserts on time."""
