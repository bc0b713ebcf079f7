"""Tests of backchain."""
