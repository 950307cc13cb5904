"""Vision-language families of the Qwen-VL architectures: one file a family, and what they share."""
