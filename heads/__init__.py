"""What is predicted: heads (NumPy), and the objectives and tasks that train them (torch)."""
