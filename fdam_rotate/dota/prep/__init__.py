"""What ``data_prep/`` runs: splitting, manifests, generated scenes, verification, conversion, download."""
