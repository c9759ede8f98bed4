"""The controller: owns intent. Use cases, the database, publishing of slices, and the merged live view."""
