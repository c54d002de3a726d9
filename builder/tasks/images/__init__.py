"""What the tasks share whose clients send encoded images: recipes, samples, labels, photos to warm up with."""
