"""Showing: tables, pictures, sentences and pages made from results."""
