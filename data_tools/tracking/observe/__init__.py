"""What a video shows: its frames, landmarks and keypoints, mattes, optical flow."""
