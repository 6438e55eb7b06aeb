"""What the commands do: discover, search, compress, rerun, check, and the files that they leave."""
