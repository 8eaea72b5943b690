"""Images with a target for every pixel: what their files hold, and how they become samples."""
