"""Readers of keypoint files, one program's formats a file; `keypoint_files.read_keypoint_file` chooses between them."""
