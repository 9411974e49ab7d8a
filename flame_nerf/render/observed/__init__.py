"""What training observed: where it is empty, from which directions, with which expressions."""
