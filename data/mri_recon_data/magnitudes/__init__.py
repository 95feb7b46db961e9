"""Read magnitude images of users' own files, with their place in the patient, to simulate scans from."""
