"""A model served as its environment says: inputs of the names that other tools' jobs have (TARGET_MODEL, ACCELERATORS,
ENGINE, …) become a Spec, and a run that prints its plan, its command and its URL as such a job does. Written against
Verbs: it knows nothing of how a thing is done."""
