"""What is seen: masks, the mentors' picture and words."""
