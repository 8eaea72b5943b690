"""The page on which people look at banks by texts and images, judge what they see, and keep prompts."""
