"""ELEVATER: twenty image sets by zero-shot, few-shot, full-shot and fine-tuning."""
