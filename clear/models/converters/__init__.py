"""Weights of one format written in another."""
