"""`jaegpt use`: somebody's own chats, looked at, and params.yaml set up for them."""
