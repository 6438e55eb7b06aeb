"""What is shown of an analysis: sentences, tables, pictures, pages and result files."""
