"""The hub's whole stack on one machine, from pip alone: Postgres, Valkey, hub, worker, beat.

Linux only. One foreground supervisor owns every process here; nothing outlives it, needs root
or touches a system service.
"""
