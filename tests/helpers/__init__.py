"""What several tests build on: fixtures of exports and models, clones, servers, a browser."""
