"""The line from a folder of photos to a submission: files, images, networks, a device."""
