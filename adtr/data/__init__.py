"""From publishers' files to manifests: which images, for what."""
