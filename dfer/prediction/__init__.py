"""What a trained model says about any video: who is in it, and what they would be seen to express over time."""
