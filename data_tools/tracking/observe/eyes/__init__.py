"""Eyes as the pictures show them: irises, laid onto what is seen between the lids."""
