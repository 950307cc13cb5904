"""Fine-tuning the backbone, with LoRA or whole."""
