"""Networks between stages: a user's module plus what stages made of it, as facts that can be stored."""
