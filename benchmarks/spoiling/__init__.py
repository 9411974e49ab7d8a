"""Bad videos and bad subjects, made from good ones, each with what is expected of it."""
