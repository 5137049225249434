"""Foundation models and how to reach them: CLIP scorers, vision-language models, and the service that asks them."""
