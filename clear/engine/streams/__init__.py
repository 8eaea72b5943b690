"""Runs over a stream of time buckets: pretraining that moves through it, an encoder of every time on every bucket."""
