"""Adapters: a few trained parameters in a frozen network."""

from clear.models.adapters.lora_weights import add_lora, merged_copy

__all__ = ['add_lora', 'merged_copy']
