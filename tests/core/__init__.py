"""Tests of the library, held against QEMU's own tools."""
