"""Folders of results: what each job leaves behind, and how it is read again."""
