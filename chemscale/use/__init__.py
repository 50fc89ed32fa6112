"""What a trained model is good for: molecules drawn from it, and its errors on structures that it has not seen."""
