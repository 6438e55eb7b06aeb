"""The answer to the user's question: which order to take, what that may cost, and which orders are out."""
