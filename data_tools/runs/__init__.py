"""What long runs of every command share: progress, resuming, blocks of frames, images, plain errors."""
