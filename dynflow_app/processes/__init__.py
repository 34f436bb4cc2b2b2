"""What every long-running process needs: waiting for servers, heartbeats, memory, OS signals."""
