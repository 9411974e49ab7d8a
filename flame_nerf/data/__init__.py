"""What a run reads of its subject: the images, where in them there is something to learn, depth maps."""
