"""Encoders under one contract."""
