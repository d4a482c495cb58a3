"""Reports as numbers, tables, pictures and pages."""
