"""Step-GRPO post-training, and the methods it is compared with."""
