"""What a person asks for, one file a verb; the command line turns words into them."""
