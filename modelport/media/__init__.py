"""Media: fetched from addresses that strangers wrote, and measured by their first bytes."""
