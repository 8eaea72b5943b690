"""mmengine's Runner made exact: pretraining, alignment, fine-tuning."""
