"""jaegpt: a person's own chat export -> a small language model that answers the way that person does."""
