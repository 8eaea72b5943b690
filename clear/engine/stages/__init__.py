"""Stages of curation: plans, shards, pools and manifests."""
