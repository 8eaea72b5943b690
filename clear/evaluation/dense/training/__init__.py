"""Training of models for pixels: settings, the loop, what a job keeps."""
