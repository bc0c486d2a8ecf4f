"""StyleGAN2 generators from other projects' checkpoints."""
