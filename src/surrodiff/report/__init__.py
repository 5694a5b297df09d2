"""From records to what people read: rows, tables, claims, figures, the summary."""
