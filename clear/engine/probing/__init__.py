"""The runner that evaluates frozen encoders."""
