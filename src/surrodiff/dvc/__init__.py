"""What DVC records of the results, and the page that its plots fill."""
