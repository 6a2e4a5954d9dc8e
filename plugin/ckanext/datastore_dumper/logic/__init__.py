"""What others ask of us through CKAN's API: actions, who may call them, and what their arguments may be."""
