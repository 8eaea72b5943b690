"""Zero-shot visual question answering: statements out of questions, answers to fill in, and how they are scored."""
