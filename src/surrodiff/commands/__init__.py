"""What the commands do: each is a function of the parsed arguments that prints its result."""
