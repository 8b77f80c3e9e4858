"""Trackers: what a run tells TensorBoard, Weights & Biases and MLflow, by processes beside the training."""
