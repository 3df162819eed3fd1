"""The pages, a subject each; `review.app` puts them together."""
