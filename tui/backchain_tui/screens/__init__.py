"""The screens: the forest, an operation on it, help, and the questions that are asked."""
