"""What people hand in, whatever wrote it: text files, tables and single values, decoded and checked once."""
