"""Benchmarks: backchain beside qemu-img on the same files. ``make bench`` runs them; no test asserts on time."""
