"""What single parts of a configuration have to hold beyond their form, and what they come to."""
