"""The doctor: whether this machine, environment and these folders are fit for a training, told before it begins."""
